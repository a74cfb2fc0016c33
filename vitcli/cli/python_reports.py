"""The functions of ``import vitcli`` that compare runs and report on them."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vitcli.cli.options import EXPERIMENTS
from vitcli.cli.python_training import StrPath, checked_options, showing
from vitcli.core.errors import UsageError
from vitcli.core.events import Emit

if TYPE_CHECKING:
    from vitcli.trained.judged_images import AskedSplit
    from vitcli.workflows.compare import RunsComparison
    from vitcli.workflows.report import Report


def _names(runs: Sequence[StrPath | Sequence[StrPath]]) -> list[str]:
    """Return the names or paths of runs, in one list.

    Raises:
        UsageError: there are lists, and all of them are empty.
    """
    listed = ([each] if isinstance(each, str | os.PathLike) else each for each in runs)
    names = [os.fspath(run) for each in listed for run in each]
    if runs and not names:
        raise UsageError("runs = [] is empty", hint="give runs: their names, their folders, or their results")
    return names


@checked_options
def compare(
    *runs: StrPath | Sequence[StrPath],
    split: str = "auto",
    output: StrPath | None = None,
    output_dir: StrPath = EXPERIMENTS,
    quiet: bool = False,
    emit: Emit | None = None,
) -> "RunsComparison":
    """Compare runs with the first of them, as ``vit runs compare`` does: settings, curves, and the same images.

    Args:
        runs: two or more runs, their results, or groups, also in a list; ``evaluate`` stores what is compared.
        split: the evaluation to compare; auto: the test split if all runs were evaluated on it.
        output: the folder of the figure and the table; None: ``comparisons/A-vs-B`` in ``output_dir``.
        output_dir: the folder of all runs.
        quiet, emit: as for ``train``.
    """
    with showing(emit, quiet=quiet) as listener:
        from vitcli.workflows.compare import compare as workflow

        return workflow(
            _names(runs),
            output_dir=Path(output_dir),
            split=split,
            output=Path(output) if output else None,
            emit=listener,
        )


@checked_options
def report(
    *runs: StrPath | Sequence[StrPath],
    split: "AskedSplit" = "auto",
    output: StrPath | None = None,
    card: bool = False,
    worst: int = 24,
    batch_size: int = 256,
    output_dir: StrPath = EXPERIMENTS,
    data_dir: StrPath = "",
    device: str = "auto",
    offline: bool = False,
    quiet: bool = False,
    emit: Emit | None = None,
) -> "Report":
    """Write a web page about runs, or a model card of one run, as ``vit report`` does.

    Args:
        runs: runs, their results, or groups, also in a list; none: the newest finished run.
        split: the split to report on; auto: the test split, else the validation split.
        output: the file; None: ``report.html`` or ``README.md`` in the run.
        card: write a model card for the Hugging Face hub instead of the page.
        worst: mistakes that are shown with attention maps, at most.
        batch_size: images per batch.
        output_dir: the folder of all runs.
        data_dir: the folder of data sets; empty: as in training.
        device: auto, cpu, cuda, cuda:N or mps.
        offline: download nothing.
        quiet, emit: as for ``train``.
    """
    with showing(emit, quiet=quiet) as listener:
        from vitcli.workflows.report import report as workflow

        return workflow(
            *_names(runs),
            split=split,
            output=Path(output) if output else None,
            card=card,
            worst=worst,
            output_dir=Path(output_dir),
            directory=os.fspath(data_dir),
            device=device,
            batch_size=batch_size,
            offline=offline,
            emit=listener,
        )
