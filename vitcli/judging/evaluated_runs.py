"""Runs and groups with their stored evaluations, and the comparison of two of them on the same images."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vitcli.core.errors import DataError, RunError, counted
from vitcli.core.events import Emit, Note, Warned
from vitcli.core.run_files import EvaluationFile
from vitcli.core.runs import Run, evaluation_file, predictions_file
from vitcli.core.stored import read_json
from vitcli.judging.pairs import Pair, matched
from vitcli.judging.tables import StoredAnswer, read_predictions


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
        return any(run.config.get("optim", {}).get("keep") != "last" for run in self.runs)

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
        split = f" --split {stem}" if stem in {"train", "val"} else ""
        return f"vit eval --model {shlex.quote(self.asked)}{split}{self.where}"


def models_of(stored: Mapping[str, Any]) -> list[str]:
    """Return the names of the models whose probabilities an evaluation averages; a single one: it averages nothing."""
    names: str = stored.get("model", "")
    return names.split(", ") if stored.get("part") != "out-of-fold" else [names]


def compare_pair(
    first: EvaluatedRun, second: EvaluatedRun, stem: str, stored: tuple[dict[str, Any], dict[str, Any]], emit: Emit
) -> Pair:
    """Compare the answers of two runs to the images that both were evaluated on."""
    answers = [read_predictions(predictions_file(each.folder, stem)) for each in (first, second)]
    _check_same_data(first, second, stem, stored, answers, emit)
    pair, both = matched((first.name, second.name), (answers[0], answers[1])), f"{first.name} and {second.name}"
    if not pair:
        raise DataError(
            f"{both} were evaluated on different images ({stem}): they share none of {len(answers[0]):,} and"
            f" {len(answers[1]):,}",
            hint="`vit eval DATASET --model RUN` evaluates both on one data set, then --split NAME compares them",
        )
    if pair.only_in_first or pair.only_in_second or pair.labelled_differently:
        relabelled = pair.labelled_differently
        labelled = f", {relabelled:,} that have another label now" if relabelled else ""
        emit(
            Warned(
                text=f"{both}: only {counted(pair.comparison.images, 'image is')} compared, on which both were evaluated;"
                f" left out: {pair.only_in_first:,} only of {first.name}, {pair.only_in_second:,} only of"
                f" {second.name}{labelled}"
            )
        )
    for each, known in zip((first, second), stored, strict=True):
        if known.get("held_out") is False and stem == "test":
            emit(Warned(text=f"{each.name}: these images were scored in training, so they were not held out"))
    if stem == "val" and (chosen := [each.name for each in (first, second) if each.keeps_best]):
        emit(Note(text=f"validation images chose the epoch of {' and '.join(chosen)}, so scores may be too high"))
    return replace(pair, models=(len(models_of(stored[0])), len(models_of(stored[1]))))


def _check_same_data(
    first: EvaluatedRun,
    second: EvaluatedRun,
    stem: str,
    stored: Sequence[Mapping[str, Any]],
    answers: Sequence[Mapping[str, StoredAnswer]],
    emit: Emit,
) -> None:
    """Refuse to match images by name where the same name may be another image; warn if the data have changed."""
    names = [
        known.get("dataset", each.runs[0].info["dataset"]) for each, known in zip((first, second), stored, strict=True)
    ]
    prints = [
        known.get("fingerprint") or each.runs[0].fingerprint
        for each, known in zip((first, second), stored, strict=True)
    ]
    have_files = not all(name.isdecimal() for each in answers for name in each)
    if prints[0] == prints[1] and (have_files or len({known.get("found_in", stem) for known in stored}) == 1):
        return
    if names[0] != names[1] or not have_files:
        raise DataError(
            f"{first.name} and {second.name} were evaluated on different images ({stem}): {names[0]} and {names[1]}"
            + ("" if names[0] != names[1] else ", which has changed in between"),
            hint=f"`vit eval {shlex.quote(_data_of(first, stored[0]))} --model {shlex.quote(second.asked)}{second.where}`"
            " evaluates the second on the images of the first",
        )
    emit(
        Warned(
            text=f"the images or labels of {names[0]} changed between the evaluations of {first.name} and"
            f" {second.name}: they are matched by their names"
        )
    )


def _data_of(run: EvaluatedRun, stored: Mapping[str, Any]) -> str:
    """Return the data set of an evaluation as ``vit eval`` takes it: its name, or the path of its folder."""
    name, own = stored.get("dataset", ""), run.runs[0].info["dataset"]
    return str(stored.get("data") or (run.runs[0].config["data"]["name"] if name in {"", own} else name))
