"""Runs and groups with their stored evaluations."""

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitcli.core.errors import FileError, ModelError, RunError, UsageError
from vitcli.core.evaluation_facts import EvaluationFacts
from vitcli.core.files import check_output_file, check_replaced_file, unused_end, with_end
from vitcli.core.run_files import EvaluationFile
from vitcli.core.runs import Run, evaluation_file, predictions_file
from vitcli.core.short_names import slug_of_several
from vitcli.core.stored import read_json
from vitcli.figures.offline_page import start_of_page


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluatedRun:
    """A run or a group, as it was named."""

    asked: str
    """The name or the path that was given."""
    folder: Path
    runs: list[Run]
    where: str = ""
    """The option of the folder of all runs, for commands to type."""

    @property
    def name(self) -> str:
        """The name of the run or the group."""
        return self.runs[0].name if self.runs[0].path == self.folder else self.folder.resolve().name

    @property
    def keeps_best(self) -> bool:
        """Tell whether validation images chose the epoch of a run."""
        return not all(run.keeps_last for run in self.runs)

    @property
    def is_crossed(self) -> bool:
        """Tell whether it is a cross-validation."""
        return len(self.runs) > 1 and self.runs[0].group == "cross-validation"

    @property
    def fingerprint(self) -> str | None:
        """The fingerprint of the data that it was trained on; None: an early version did not store it."""
        return self.runs[0].fingerprint

    @property
    def classes(self) -> frozenset[str]:
        """The classes that it knows; empty: its checkpoint cannot be read."""
        from vitcli.engine.checkpoint import classes_in  # torch takes a while to import

        with suppress(ModelError):
            return frozenset(classes_in(self.runs[0].best_checkpoint))
        return frozenset()

    def evaluation(self, stem: str) -> dict[str, Any] | None:
        """Return the stored numbers; None: there are none for the epoch that is kept now, or without predictions."""
        path = evaluation_file(self.folder, stem)
        try:
            stored: dict[str, Any] = read_json(path)
            read_json(path, EvaluationFile)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise RunError(f"{path} cannot be read: {error}", hint=f"`{self.command(stem)}` writes it again") from None
        is_outdated = len(self.runs) == 1 and self.runs[0].is_outdated(stored)
        return stored if not is_outdated and predictions_file(self.folder, stem).exists() else None

    def facts(self, stem: str) -> Mapping[str, Any]:
        """Return the content of a stored evaluation, of an earlier epoch too; empty: there is none that can be read."""
        with suppress(OSError, ValueError):
            facts: Mapping[str, Any] = read_json(evaluation_file(self.folder, stem), EvaluationFile)
            return facts
        return {}

    def command(self, stem: str) -> str:
        """Return the command that stores an evaluation, in the same way as the stored one if there is one."""
        return EvaluationFacts(stem=stem, facts=self.facts(stem)).command(self.folder, self.asked, self.where)

    def check_judges(self, split: str) -> None:
        """Refuse a split of the run's own data that ``vit eval`` refuses: the models of a group must hold out the same.

        Raises:
            RunError: they were trained on different images of the split.
        """
        held_out = [(run.split or {}).get("held_out", {}).get(split) for run in self.runs]
        is_alike = split != "train" and all(each == held_out[0] for each in held_out)
        if len(self.runs) > 1 and not is_alike and not (self.is_crossed and split in {"val", "out-of-fold"}):
            raise RunError(
                f"{self.name} is a {self.runs[0].group} whose runs do not hold out the same {split} images"
                + (", so it is compared on test images" if split != "test" else ""),
                hint=f"name one of its runs: {self.asked.rstrip('/')}/{self.runs[0].path.name}",
            )


def models_of(stored: Mapping[str, Any]) -> list[str]:
    """Return the names of the models whose probabilities an evaluation averages; a single one: it averages nothing."""
    return names_in(stored) if stored.get("part") != "out-of-fold" else [stored.get("model", "")]


def names_in(stored: Mapping[str, Any]) -> list[str]:
    """Return the names of all models of an evaluation; an early version stored them in one text."""
    names: list[str] = stored.get("models") or stored.get("model", "").split(", ")
    return names


def report_file(found: Sequence[EvaluatedRun], output: Path | None, output_dir: Path, *, card: bool) -> Path:
    """Return the file for a report or a card; a card is never replaced, because people add to it.

    Args:
        found: the runs and groups that it is about.
        output: the file that was asked for; None: the usual one.
        output_dir: the folder of all runs.
        card: whether it is a card.

    Raises:
        UsageError, FileError: the file has another ending, cannot be written, is a card that exists already, or is
            another page than one of vit.
    """
    if not output and card:
        usual = found[0].folder / "README.md"
        return with_end(usual, unused_end(usual))
    several = output_dir / "comparisons" / slug_of_several([each.name for each in found])
    path = output or (several if len(found) > 1 else found[0].folder) / "report.html"
    check_output_file(path)
    kind, endings = ("card", (".md",)) if card else ("page", (".html", ".htm"))
    if path.suffix.lower() not in endings:
        hint = f"-o {shlex.quote(str(path.with_suffix(endings[0])))}"
        raise UsageError(f"{path}: a {kind} is an {endings[0]} file", hint=hint)
    if output and not card:
        check_replaced_file(path, start_of_page())
    if card and path.exists():
        raise FileError(f"{path} exists already, and people may have added to it", hint="give another name")
    return path
