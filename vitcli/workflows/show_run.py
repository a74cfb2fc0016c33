"""Report of one run, or of a group of runs: what was trained, how it ended, its files, and how to repeat it."""

from pathlib import Path

from vitcli.core.errors import RunError
from vitcli.core.events import Emit, Note, ignore
from vitcli.core.run_search import all_runs, have_same_data, newest_finished, output_dir_option, runs_called
from vitcli.trained.chosen import compared_with_best
from vitcli.trained.model_names import name_meant_by
from vitcli.training.run_report import RunReport, report_of


def show_run(name: str | None, output_dir: Path = Path("experiments"), emit: Emit = ignore) -> RunReport:
    """Collect the facts about a run.

    Args:
        name: a run or a group in ``output_dir``, or its path; ``best``: the best finished one on the data of the newest;
            None: the newest run, finished or not.
        output_dir: the folder of all runs.
        emit: receives warnings about files that cannot be read.

    Raises:
        RunError: there is no such run.
    """
    if name is None:
        name, compared = _newest(output_dir)
        emit(Note(text=f"run: the newest, {name}{compared}"))
    name = name_meant_by(name, output_dir, emit)
    folder, runs = runs_called(name, output_dir)
    return report_of(folder, runs, name=name, output_dir=output_dir, emit=emit)


def _newest(output_dir: Path) -> tuple[str, str]:
    """Return the name of the run that began last, or of its group, and words about a better one on the same data."""
    runs = all_runs(output_dir)
    if not runs:
        raise RunError(f"no run in {output_dir}", hint="`vit train` makes one")
    newest, compared = runs[0], ""
    if newest.status == "finished" and have_same_data(newest, newest_finished(output_dir)):
        use = f"`vit runs show {{}}{output_dir_option(output_dir)}` shows it"
        compared = compared_with_best(newest, "", output_dir, use)
    return (newest.path.parent if newest.is_member else newest.path).name, compared
