"""Words about the run that a command takes when none is named; nothing here needs torch."""

import shlex
from pathlib import Path

from vitcli.core.run_search import all_runs, best_finished, members_with, score_of
from vitcli.core.runs import Run
from vitcli.trained.model_names import BEST, is_there

BY_OPTION = "--model {} takes it"
"""The words about a run in most commands, with {} for its name."""


def kind_of_choice(chosen: Run, name: str) -> str:
    """Say what a run was chosen as: by the name ``best``, or without a name."""
    return f"best finished run on {chosen.info['dataset']}" if name else "newest finished run"


def compared_with_best(chosen: Run, name: str, output_dir: Path, use: str = BY_OPTION) -> str:
    """Say how good the chosen run is: if it is the newest one, only if another run on the same data is better.

    Args:
        chosen: the run.
        name: the name that it was chosen by: ``best``, or empty for the newest one.
        output_dir: the folder of all runs.
        use: words about what takes a run, with {} for its name.
    """
    score = f"{100 * score_of(chosen):.2f} %"
    if name:
        return f"; validation accuracy {score}"
    newer = _newer_unfinished(chosen, output_dir, use)
    best = best_finished(output_dir)
    if score_of(best) <= score_of(chosen):
        return newer
    called = best.path.resolve().parent.name if members_with(best) else best.name
    better = f"{called} has a higher validation accuracy on the same data ({100 * score_of(best):.2f} %, not {score})"
    typed = shlex.quote(called) if is_there(BEST, output_dir) else BEST  # a run may have that name
    return f"; {better}: {use.format(typed)}{newer}"


def _newer_unfinished(chosen: Run, output_dir: Path, use: str) -> str:
    """Name the newest run if it has begun after the chosen one and has weights, though it is not finished."""
    newest = all_runs(output_dir)[0]
    if newest.status == "finished" or newest.info["started"] <= chosen.info["started"]:
        return ""
    if not newest.best_checkpoint.exists():
        return ""
    called = newest.path.relative_to(output_dir) if newest.path.is_relative_to(output_dir) else newest.path
    return f"; the newer run {called} is {newest.status}: {use.format(shlex.quote(str(called)))}"
