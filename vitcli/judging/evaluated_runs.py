"""Runs and groups with their stored evaluations."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitcli.core.errors import RunError
from vitcli.core.run_files import EvaluationFile
from vitcli.core.runs import Run, evaluation_file, predictions_file
from vitcli.core.stored import read_json


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

    def command(self, stem: str) -> str:
        """Return the command that stores an evaluation."""
        asked = "val" if stem == "out-of-fold" else stem
        split = f" --split {asked}" if asked in {"train", "val"} else ""
        return f"vit eval --model {shlex.quote(self.asked)}{split}{self.where}"


def models_of(stored: Mapping[str, Any]) -> list[str]:
    """Return the names of the models whose probabilities an evaluation averages; a single one: it averages nothing."""
    names: str = stored.get("model", "")
    return names.split(", ") if stored.get("part") != "out-of-fold" else [names]
