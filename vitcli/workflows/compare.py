"""Comparison of runs: settings that differ, curves, and the answers to the images that both were evaluated on."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from vitcli.core.errors import DataError, RunError, UsageError, visible
from vitcli.core.events import Emit, EpochRecord, Note, Warned, ignore
from vitcli.core.files import check_output_folder
from vitcli.core.run_files import EvaluationFile
from vitcli.core.run_search import runs_called
from vitcli.core.runs import Run, evaluation_file, predictions_file, slug
from vitcli.core.stored import read_json
from vitcli.judging.pairs import Pair, matched, write_changed
from vitcli.judging.tables import StoredAnswer, read_predictions
from vitcli.training.resumed_settings import all_settings

_NOT_COMPARED = frozenset(
    {
        "data.dir",
        "data.fold",
        "run.nth_seed",
        "run.name",
        "run.output_dir",
        "run.overwrite",
        "run.offline",
        "run.pretrained",
    }
)
"""Settings that say where a run is, and not what was trained."""
_ORDER = ("test", "val")
"""The evaluations that are compared first, if all runs have them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DifferentSetting:
    """A setting that is not the same in all runs."""

    setting: str
    """The setting, ``SECTION.KEY``."""
    values: tuple[Any, ...]
    """Its value in each run; None: the run has no such setting."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunsComparison:
    """Several runs, each compared with the first one."""

    runs: tuple[str, ...]
    """The names of the runs."""
    settings: tuple[DifferentSetting, ...]
    """The settings that differ."""
    evaluation: str
    """The evaluation that is compared: the split, after the name of the data set if it is not the runs' own."""
    pairs: tuple[Pair, ...]
    """Each other run with the first one, if both were evaluated."""
    missing: Mapping[str, str]
    """The commands that store the evaluations that are missing, by run."""
    figure: Path | None
    """The figure of the curves; None: a run has no epochs."""
    table: Path | None
    """The table of the images that changed sides; None: there are no evaluations to compare."""

    def __repr__(self) -> str:
        found = [f"{each.second} {100 * each.comparison.differences[0].difference:+.2f} points" for each in self.pairs]
        return visible(
            f"<RunsComparison with {self.runs[0]}, {self.evaluation}: {', '.join(found) or 'no evaluations'}>"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Compared:
    """A run or a group to compare."""

    asked: str
    """The name or the path that was given."""
    folder: Path
    runs: list[Run]
    where: str
    """The option of the folder of all runs, for commands to type."""

    @property
    def name(self) -> str:
        """The name of the run or the group."""
        return self.runs[0].name if self.runs[0].path == self.folder else self.folder.resolve().name

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


def compare(
    names: Sequence[str],
    *,
    output_dir: Path = Path("experiments"),
    split: str = "auto",
    output: Path | None = None,
    emit: Emit = ignore,
) -> RunsComparison:
    """Compare runs with the first of them, and write a figure of their curves and a table of images that changed sides.

    Args:
        names: two or more runs or groups in ``output_dir``, or their paths.
        output_dir: the folder of all runs.
        split: the evaluation to compare: test, val, train, or the name of any file in ``evaluations/``; auto: the test
            split if all runs were evaluated on it, else another one that all have.
        output: the folder of the figure and the table; None: ``comparisons/A-vs-B`` in ``output_dir``.
        emit: receives notes and warnings.

    Raises:
        UsageError: there are fewer than two different runs.
        RunError: there is no such run, or its files are broken.
        DataError: the runs were evaluated on different images.
    """
    compared = _found(names, output_dir)
    called = tuple(each.name for each in compared)
    if len(set(called)) < len(called):
        raise UsageError(f"two of the runs have the same name: {', '.join(called)}", hint="vit runs rename OLD NEW")
    stem = _chosen(compared) if split == "auto" else split
    stored = {each.name: each.evaluation(stem) for each in compared}
    missing = {each.name: each.command(stem) for each in compared if not stored[each.name]}
    first, *others = compared
    pairs = [
        _pair(first, other, stem, (known, stored[other.name] or {}), emit)
        for other in others
        if (known := stored[first.name]) and stored[other.name]
    ]
    folder = output or output_dir / "comparisons" / "-vs-".join(slug(name) for name in called)[:200]
    check_output_folder(folder)
    table = folder / f"{stem}-changed.csv" if pairs else None
    if table:
        write_changed(table, pairs)
    return RunsComparison(
        runs=called,
        settings=tuple(_different_settings(compared)),
        evaluation=stem,
        pairs=tuple(pairs),
        missing=missing,
        figure=_draw(compared, folder / "curves.png", emit),
        table=table,
    )


def _found(names: Sequence[str], output_dir: Path) -> list[_Compared]:
    """Find the runs, each once."""
    found: dict[Path, _Compared] = {}
    where = "" if output_dir == Path("experiments") else f" --output-dir {shlex.quote(str(output_dir))}"
    for name in names:
        folder, runs = runs_called(name, output_dir)
        found.setdefault(folder.resolve(), _Compared(asked=name, folder=folder, runs=runs, where=where))
    if len(found) < 2:
        raise UsageError(
            "two different runs are needed for a comparison", hint="vit runs compare A B; `vit runs` lists the runs"
        )
    return list(found.values())


def _chosen(compared: Sequence[_Compared]) -> str:
    """Return the evaluation that all runs have; else the one that they should have."""
    stems = [{path.stem for path in (each.folder / "evaluations").glob("*.json")} for each in compared]
    common = [stem for stem in set.intersection(*stems) if all(each.evaluation(stem) for each in compared)]
    has_test = all(each.runs[0].info.get("images", {}).get("test", 1) for each in compared)
    ranked = sorted(common, key=lambda stem: (_ORDER.index(stem) if stem in _ORDER else len(_ORDER), stem))
    return ranked[0] if ranked else "test" if has_test else "val"


def _different_settings(compared: Sequence[_Compared]) -> list[DifferentSetting]:
    """List the settings that are not the same in all runs; those of the architecture also where a name stands for them."""
    known = [all_settings(each.runs[0]) for each in compared]
    names = dict.fromkeys(name for settings in known for name in settings if name not in _NOT_COMPARED)
    rows = [DifferentSetting(setting=name, values=tuple(each.get(name) for each in known)) for name in names]
    return [row for row in rows if any(one != other for one, other in pairwise(row.values))]


def _pair(
    first: _Compared, second: _Compared, stem: str, stored: tuple[dict[str, Any], dict[str, Any]], emit: Emit
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
                text=f"{both}: only the {pair.comparison.images:,} images that both were evaluated on are compared;"
                f" left out: {pair.only_in_first:,} only of {first.name}, {pair.only_in_second:,} only of"
                f" {second.name}{labelled}"
            )
        )
    for each, known in zip((first, second), stored, strict=True):
        if known.get("held_out") is False and stem == "test":
            emit(Warned(text=f"{each.name}: these images were scored in training, so they were not held out"))
    if stem == "val":
        emit(Note(text="validation images chose the epochs of both runs, so both scores may be too high"))
    return pair


def _check_same_data(
    first: _Compared,
    second: _Compared,
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
            hint=f"`vit eval {shlex.quote(names[0])} --model {shlex.quote(second.asked)}{second.where}` evaluates the second"
            " on the images of the first",
        )
    emit(
        Warned(
            text=f"the images or labels of {names[0]} changed between the evaluations of {first.name} and"
            f" {second.name}: they are matched by their names"
        )
    )


def _draw(compared: Sequence[_Compared], path: Path, emit: Emit) -> Path | None:
    """Draw the curves of all runs; None: none of them has epochs."""
    from vitcli.figures.curves import draw_compared_curves  # matplotlib takes a while to import

    curves: dict[str, list[list[EpochRecord]]] = {}
    for each in compared:
        records = [[EpochRecord(**record) for record in run.metrics.get("epochs", ())] for run in each.runs]
        if some := [epochs for epochs in records if epochs]:
            curves[each.name] = some
        else:
            emit(Note(text=f"{each.name} has no curves: its first epoch has not ended"))
    if not curves:
        return None
    draw_compared_curves(curves, path)
    return path
