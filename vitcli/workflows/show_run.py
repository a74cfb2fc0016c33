"""Report of one run, or of a group of runs: what was trained, how it ended, its files, and how to repeat it."""

from pathlib import Path

from vitcli.core.events import Emit, ignore
from vitcli.core.run_search import runs_called
from vitcli.training.run_report import RunReport, report_of


def show_run(name: str, output_dir: Path = Path("experiments"), emit: Emit = ignore) -> RunReport:
    """Collect the facts about a run.

    Args:
        name: a run or a group in ``output_dir``, or its path.
        output_dir: the folder of all runs.
        emit: receives warnings about files that cannot be read.

    Raises:
        RunError: there is no such run.
    """
    folder, runs = runs_called(name, output_dir)
    return report_of(folder, runs, name=name, output_dir=output_dir, emit=emit)
