"""Search for runs: all of a folder, the newest one, one by its name, and those of a group."""

import glob
import re
import shlex
from contextlib import suppress
from pathlib import Path

from vitcli.core.errors import RunError, did_you_mean
from vitcli.core.events import Emit, Warned, ignore
from vitcli.core.fingerprints import is_same_data
from vitcli.core.runs import Run


def output_dir_option(output_dir: Path) -> str:
    """Return `` --output-dir FOLDER`` for a command to type; empty: the folder of all runs is the usual one."""
    return "" if output_dir == Path("experiments") else f" --output-dir {shlex.quote(str(output_dir))}"


def free_cross_validation(output_dir: Path, stem: str, fold: int) -> str:
    """Return the name of the newest cross-validation with this stem if it lacks this fold; empty: there is none."""
    names = [path.name for path in output_dir.glob(f"{glob.escape(stem)}-*") if any(path.glob("fold-*/run.json"))]
    newest = max(names, default="")
    return newest if newest and not (output_dir / newest / f"fold-{fold}").exists() else ""


def members_of(path: Path) -> list[Run]:
    """Return the runs of a cross-validation, or those with several seeds, by number; empty if ``path`` is not a group."""
    runs = [Run(info.parent) for kind in ("fold", "seed") for info in path.glob(f"{kind}-*/run.json")]
    return sorted((run for run in runs if run.is_member), key=lambda run: int(run.path.name.partition("-")[2]))


def members_with(run: Run) -> list[Run]:
    """Return all runs of the group that a fold or a seed belongs to; empty if ``run`` is not one of these."""
    return members_of(run.path.parent) if run.is_member else []


def next_name(output_dir: Path, stem: str) -> str:
    """Return ``STEM-001``, or the name with the next number after the highest existing one."""
    taken = [
        int(match[1])
        for path in (output_dir.iterdir() if output_dir.is_dir() else ())
        if (match := re.fullmatch(re.escape(stem) + r"-(\d+)", path.name))
    ]
    return f"{stem}-{max(taken, default=0) + 1:03d}"


def all_runs(output_dir: Path, emit: Emit = ignore) -> list[Run]:
    """Return every readable run in a directory, the newest first; warn about the others."""
    if not output_dir.is_dir():
        return []
    runs = []
    alone = {*output_dir.glob("*/run.json")}
    for info_file in (
        *sorted(alone),
        *sorted(path for kind in ("fold", "seed") for path in output_dir.glob(f"*/{kind}-*/run.json")),
    ):
        try:
            run = Run(info_file.parent)
            if run.is_member or info_file in alone:
                runs.append(run)
        except RunError as error:
            emit(Warned(text=f"skipped: {error.message}"))
    return sorted(runs, key=lambda run: str(run.info["started"]), reverse=True)


def newest_finished(output_dir: Path, emit: Emit = ignore) -> Run:
    """Return the finished run that ended last; warn about runs that cannot be read.

    Raises:
        RunError: there is none.
    """
    return _newest_of(_finished_runs(output_dir, emit))


def best_finished(output_dir: Path, emit: Emit = ignore) -> Run:
    """Return the finished run with the highest validation accuracy on the data of the newest one; see ``score_of``.

    Raises:
        RunError: there is no finished run.
    """
    finished = _finished_runs(output_dir, emit)
    newest = _newest_of(finished)
    others = [run for run in finished if run.best_checkpoint.exists() and have_same_data(run, newest)]
    return max([newest, *others], key=_rank_of)


def _finished_runs(output_dir: Path, emit: Emit) -> list[Run]:
    finished = [run for run in all_runs(output_dir, emit) if run.status == "finished"]
    if not finished:
        raise RunError(f"no finished run in {output_dir}", hint="`vit train` makes one; --model takes any checkpoint")
    return finished


def _newest_of(finished: list[Run]) -> Run:
    return max(finished, key=lambda run: str(run.info["ended"]))


def score_of(run: Run) -> float:
    """Return the validation accuracy of a run, 0..1; of a fold or a seed, the mean of its group; 0: none is known."""
    scores = [_own_score(fold) for fold in members_with(run) or [run] if fold.status == "finished"]
    return sum(scores) / max(len(scores), 1)


def _rank_of(run: Run) -> tuple[float, float]:
    return score_of(run), _own_score(run)


def _own_score(run: Run) -> float:
    with suppress(RunError):  # one broken run must not hide the others
        if best := run.metrics.get("best"):
            return float(best["val_accuracy"])
    return 0.0


def have_same_data(run: Run, other: Run) -> bool:
    """Tell whether runs have the same data: by fingerprint, else (in runs of earlier versions) by name."""
    with suppress(RunError):
        if run.fingerprint and other.fingerprint:
            return is_same_data(run.fingerprint, other.fingerprint)
    return bool(run.info["dataset"] == other.info["dataset"])


def find_run(name: str, output_dir: Path) -> Run:
    """Find a run by its name in ``output_dir`` or by its path."""
    for path in (output_dir / name, Path(name)):
        if (path / "run.json").is_file():
            return Run(path)
        if (path / "pretraining.json").is_file():
            typed = shlex.quote(name)
            hint = (
                f"vit pretrain --resume {typed} continues it, vit train DATASET --init-from {typed} starts from its"
                f" weights; to delete it, remove {path}"
            )
            raise RunError(f"{name} is a pretraining, not a run", hint=hint)
    lists = f"`vit runs{output_dir_option(output_dir)}` lists the runs"
    hint = did_you_mean(name, [run.name for run in all_runs(output_dir)], otherwise=lists)
    raise RunError(f"no run {name!r} in {output_dir}", hint=hint)


def runs_called(name: str, output_dir: Path) -> tuple[Path, list[Run]]:
    """Find a run or a group by its name in ``output_dir`` or by its path; return its folder and its runs.

    Raises:
        RunError: there is none, or a run cannot be read.
    """
    for path in (output_dir / name, Path(name)):
        if folds := members_of(path):
            return path, folds
    run = find_run(name, output_dir)
    return run.path, [run]


def run_of_checkpoint(path: Path) -> Run | None:
    """Return the run that a checkpoint file lies in; None: it is outside of runs."""
    folder = path.resolve().parent.parent
    return Run(folder) if (folder / "run.json").is_file() else None
