"""The weights that a model goes back to, through all trainings that started from one another, and their licence."""

from dataclasses import dataclass
from pathlib import Path

from vitcli.core.errors import VitError
from vitcli.core.run_search import run_of_checkpoint
from vitcli.core.runs import Run
from vitcli.core.words import UNKNOWN_LICENCE
from vitcli.trained.model_names import find_model


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """The weights that the first of several trainings started from."""

    name: str = ""
    """Their name or path; empty: the training started from random weights."""
    licence: str = ""
    """Their licence; empty: not known."""
    hub: str = ""
    """Their repository on the Hugging Face hub; empty: they are not from there."""


def origin_of(run: Run, output_dir: Path) -> Origin:
    """Follow ``--init-from`` back to the first weights.

    Args:
        run: the run.
        output_dir: the folder of all runs.

    Raises:
        RunError: the settings of a run cannot be read.
    """
    seen = {run.path.resolve()}
    while name := run.config.get("run", {}).get("init_from", ""):
        try:
            found = find_model(name, output_dir)
        except VitError:  # the run or the file is not here any more
            return Origin(name=name)
        before = found if isinstance(found, Run) else run_of_checkpoint(found) if isinstance(found, Path) else None
        if before is None or before.path.resolve() in seen:
            licence = getattr(found, "licence", "")
            return Origin(
                name=name, licence="" if licence == UNKNOWN_LICENCE else licence, hub=getattr(found, "hub", "")
            )
        run = before
        seen.add(run.path.resolve())
    return Origin()
