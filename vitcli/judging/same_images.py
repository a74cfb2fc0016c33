"""Stored evaluations of several runs on the same images, whatever the data are called, and commands that store them."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from vitcli.core.errors import DataError, RunError
from vitcli.core.runs import predictions_file
from vitcli.data.registry import find_dataset
from vitcli.judging.evaluated_runs import EvaluatedRun
from vitcli.judging.tables import read_predictions

_ORDER = ("test", "out-of-fold", "val")
"""The evaluations that are compared first, if all runs have them."""
Facts = Mapping[str, Any]
NamesIn = Callable[[Path], frozenset[str]]


def chosen_evaluations(compared: Sequence[EvaluatedRun], asked: str) -> tuple[str, ...]:
    """Choose an evaluation of each run, on the same images if there are such; else the one that all should have.

    Args:
        compared: the runs.
        asked: the name of an evaluation, of at least one run; auto: the test images first.

    Raises:
        RunError: an evaluation that may be the one to compare is broken.
    """
    needed = _ORDER if asked == "auto" else (asked,)
    stored = [_stored(run, needed) for run in compared]
    anchors = [(0, stem) for stem in stored[0]]
    if asked != "auto":
        anchors = [(at, asked) for at, found in enumerate(stored) if asked in found]
    names_in = cache(_names_in)  # each table is read once
    alike = [_all_alike(compared, stored, at, stem, names_in) for at, stem in anchors]
    found = max(alike, key=lambda stems: sum(map(bool, stems)), default=())
    if sum(map(bool, found)) > 1:
        known = next(filter(None, found))
        return tuple(stem or known for stem in found)
    if asked != "auto":
        return (asked,) * len(compared)
    common = [stem for stem in stored[0] if all(stem in found for found in stored)]
    has_test = all(each.runs[0].info.get("images", {}).get("test", 1) for each in compared)
    are_folds = all(len(each.runs) > 1 and each.runs[0].group == "cross-validation" for each in compared)
    usual = "test" if has_test else "out-of-fold" if are_folds else "val"
    return (common[0] if common else usual,) * len(compared)


def _stored(run: EvaluatedRun, needed: Sequence[str]) -> dict[str, Facts]:
    """Return the evaluations of a run that can be compared, by name, those to prefer first.

    Raises:
        RunError: one of the needed ones is broken.
    """
    names = [path.stem for path in (run.folder / "evaluations").glob("*.json")]
    found: dict[str, Facts] = {}
    for name in sorted(names, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)):
        try:
            if known := run.evaluation(name):
                found[name] = known
        except RunError:
            if name in needed:
                raise
    return found


def _all_alike(
    compared: Sequence[EvaluatedRun], stored: Sequence[Mapping[str, Facts]], at: int, stem: str, names_in: NamesIn
) -> tuple[str, ...]:
    """Return the evaluations of all runs on the same images as one of the run at an index; empty: it has none."""
    return tuple(
        stem if run is compared[at] else _most_alike(compared[at], stem, stored[at][stem], run, known, names_in)
        for run, known in zip(compared, stored, strict=True)
    )


def _most_alike(
    first: EvaluatedRun, stem: str, facts: Facts, run: EvaluatedRun, stored: Mapping[str, Facts], names_in: NamesIn
) -> str:
    """Return the evaluation of another run that shares most images with one of the first; empty: none shares any."""
    place, names = _place(first, stem, facts), names_in(predictions_file(first.folder, stem))
    shared = {
        other: len(names & names_in(predictions_file(run.folder, other)))
        for other, known in stored.items()
        if _place(run, other, known) == place
    }
    best = max(
        shared,
        key=lambda other: (shared[other], other == stem, stored[other].get("views") == facts.get("views")),
        default="",
    )
    return best if shared.get(best) else ""


def _names_in(table: Path) -> frozenset[str]:
    """Return the names of the images in a table of predictions; a broken table is reported if it is the one to compare."""
    with suppress(DataError):
        return frozenset(read_predictions(table))
    return frozenset()


def _place(run: EvaluatedRun, stem: str, facts: Facts) -> tuple[object, ...]:
    """Return what two evaluations share if the name of an image means the same in both; training images are apart."""
    is_own = stem in {*_ORDER, "train"}
    data = facts.get("fingerprint") or (run.runs[0].fingerprint if is_own else facts.get("dataset"))
    return data, facts.get("found_in", stem), facts.get("part", stem) == "train"


# Commands


def command_to_compare(
    first: EvaluatedRun, stem: str, facts: Facts | None, second: EvaluatedRun, known: Facts | None
) -> str:
    """Return the command that evaluates one of two runs on the images of the other.

    It is the second run that is evaluated, unless only its images are the own ones of a run, or only they are here.

    Args:
        first: a run.
        stem: its evaluation.
        facts: the facts of this evaluation; None: it has none.
        second: another run.
        known: the facts of its evaluation; None: it has none.
    """
    if not facts:
        return first.command(stem)
    there, here = (_data_of(run, each or {}) for run, each in ((first, facts), (second, known)))
    is_own = [
        run.runs[0].fingerprint == each.get("fingerprint") for run, each in ((first, facts), (second, known or {}))
    ]
    if known and ((is_own == [False, True] and _is_here(here)) or (_is_here(here) and not _is_here(there))):
        return _evaluating(first, second, stem, known, here)
    return _evaluating(second, first, stem, facts, there)


def _evaluating(run: EvaluatedRun, other: EvaluatedRun, stem: str, facts: Facts, data: str) -> str:
    """Return the command that evaluates a run on the images of an evaluation of another one."""
    part = facts.get("part", stem)
    if run.runs[0].fingerprint == (facts.get("fingerprint") or other.runs[0].fingerprint):
        return run.command(part if part != "all" else "test")
    found = facts.get("found_in", stem)
    split = "" if found == "test" or part == "all" else f" --split {found}"
    return f"vit eval {shlex.quote(data)} --model {shlex.quote(run.asked)}{split}{run.where}"


def _data_of(run: EvaluatedRun, facts: Facts) -> str:
    """Return the data set of an evaluation as ``vit eval`` takes it: its name, or the path of its folder."""
    name, own = facts.get("dataset", ""), run.runs[0].info["dataset"]
    return str(facts.get("data") or (run.runs[0].config["data"]["name"] if name in {"", own} else name))


def _is_here(data: str) -> bool:
    return find_dataset(data) is not None or Path(data).expanduser().exists()
