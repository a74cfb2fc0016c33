"""List of runs."""

from pathlib import Path

from vitcli.core.events import Emit, ignore
from vitcli.core.run_search import all_runs
from vitcli.trained.run_rows import RunRow, list_rows


def list_runs(output_dir: Path = Path("experiments"), emit: Emit = ignore) -> list[RunRow]:
    """List every run in a folder, the newest first; a cross-validation has a row of its own before its newest fold.

    Args:
        output_dir: the folder of all runs.
        emit: receives warnings about files that cannot be read.
    """
    return list_rows(all_runs(output_dir, emit), emit)
