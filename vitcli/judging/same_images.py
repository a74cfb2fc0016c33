"""Stored evaluations of several runs on the same images, whatever the data are called, and commands that store them."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from vitcli.core.errors import RunError, did_you_mean, some
from vitcli.core.evaluation_facts import eval_command
from vitcli.core.files import expanded
from vitcli.core.fingerprints import is_same_data
from vitcli.data.registry import find_dataset
from vitcli.judging.compared_evaluation import ComparedEvaluation
from vitcli.judging.evaluated_runs import EvaluatedRun

_ORDER = ("test", "out-of-fold", "val")
"""The evaluations that are compared first, if all runs have them."""
Stored = Mapping[str, ComparedEvaluation]


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenEvaluations:
    """An evaluation of each run, on the same images if there are such; else why there is none."""

    stem: str
    """The name of the evaluation of the first run."""
    found: tuple[ComparedEvaluation | None, ...]
    """The evaluation of each run; None: it has none."""
    missing: Mapping[str, str]
    """The commands that store those that are missing, by run."""
    errors: Mapping[str, RunError]
    """The reasons why other runs have none and no command stores it, by run."""


def chosen_evaluations(compared: Sequence[EvaluatedRun], asked: str) -> ChosenEvaluations:
    """Choose an evaluation of each run, on the same images if there are such; else the one that all should have.

    Args:
        compared: the runs.
        asked: the name of an evaluation, of at least one run; auto: the test images first, judged in the same way.

    Raises:
        RunError: no run has an evaluation of that name.
    """
    needed = _ORDER if asked == "auto" else (asked,)
    broken = dict[tuple[str, str], RunError]()
    stored = [_stored(run, broken) for run in compared]
    if asked != "auto":
        _check_name(compared, asked)
    stem, found = _chosen(compared, stored, asked)
    wanted = next(filter(None, found), None) or _outdated(compared, stem)
    missing, errors = dict[str, str](), dict[str, RunError]()
    for run, each, known in zip(compared, found, stored, strict=True):
        try:
            for name in _preferred(needed, each):  # a broken one is not replaced by another one
                if (run.name, name) in broken:
                    raise broken[run.name, name]
                if name in known:
                    known[name].check_answers()
            if not each:
                missing[run.name] = _evaluating(run, wanted)
        except RunError as error:
            errors[run.name] = error
    usable = tuple(None if run.name in errors else each for run, each in zip(compared, found, strict=True))
    return ChosenEvaluations(stem=stem, found=usable, missing=missing, errors=errors)


def _stored(run: EvaluatedRun, broken: dict[tuple[str, str], RunError]) -> Stored:
    """Return the evaluations of a run that can be compared, by name, those to prefer first; add to the broken ones."""
    names = [path.stem for path in (run.folder / "evaluations").glob("*.json")]
    found = dict[str, ComparedEvaluation]()
    for name in sorted(names, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)):
        try:
            if known := run.evaluation(name):
                found[name] = ComparedEvaluation(run=run, stem=name, facts=known)
        except RunError as error:
            broken[run.name, name] = error
    return found


def _preferred(needed: Sequence[str], chosen: ComparedEvaluation | None) -> Sequence[str]:
    """Return the evaluations that come before the chosen one, and this one; all if there is none."""
    if not chosen:
        return needed
    return needed[: needed.index(chosen.stem) + 1] if chosen.stem in needed else (chosen.stem,)


def _check_name(compared: Sequence[EvaluatedRun], asked: str) -> None:
    """Refuse the name of an evaluation that no run can have."""
    known = {path.stem for run in compared for path in (run.folder / "evaluations").glob("*.json")}
    usual = {*_ORDER, "train"}
    if asked not in known | usual:
        raise RunError(
            f"none of the runs has an evaluation {asked!r}",
            hint=did_you_mean(asked, sorted(known | usual), otherwise=f"--split takes {some(sorted(known | usual))}"),
        )
    if asked == "out-of-fold" and asked not in known and not any(run.is_crossed for run in compared):
        raise RunError(
            "none of the runs is a cross-validation, so there are no out-of-fold predictions",
            hint="--split val compares validation images",
        )


# Choice


def _chosen(
    compared: Sequence[EvaluatedRun], stored: Sequence[Stored], asked: str
) -> tuple[str, tuple[ComparedEvaluation | None, ...]]:
    """Choose the evaluations: those that share most images with one of the first run, or with the one that is asked for."""
    is_auto = asked == "auto"
    anchors = [*stored[0].values()] if is_auto else [each[asked] for each in stored if asked in each]
    alike = [
        tuple(
            anchor if anchor.run is run else _most_alike(anchor, known, in_same_way=is_auto)
            for run, known in zip(compared, stored, strict=True)
        )
        for anchor in anchors
    ]
    found = max(alike, key=lambda each: sum(map(bool, each)), default=())
    if len(some_found := [each for each in found if each]) > 1:
        stem = found[0].stem if found[0] else some_found[0].stem
        return stem, tuple(each or known.get(stem) for each, known in zip(found, stored, strict=True))
    common = [stem for stem in stored[0] if all(stem in found for found in stored)]
    has_test = all(each.runs[0].info.get("images", {}).get("test", 1) for each in compared)
    usual = "test" if has_test else "out-of-fold" if all(each.is_crossed for each in compared) else "val"
    stem = asked if not is_auto else common[0] if common else usual
    return stem, tuple(known.get(stem) for known in stored)


def _most_alike(anchor: ComparedEvaluation, stored: Stored, *, in_same_way: bool) -> ComparedEvaluation | None:
    """Return the evaluation of another run that shares most images with a given one; None: it has none.

    Args:
        anchor: the evaluation of a run.
        stored: the evaluations of another run.
        in_same_way: only those that were judged in the same way; else these are preferred.
    """
    ranks = dict[str, tuple[bool, int, bool]]()
    for stem, other in stored.items():
        is_training = anchor.part == "train", other.part == "train"
        if other.place != anchor.place or is_training[0] != is_training[1]:
            continue
        is_alike = _are_alike(anchor, other)
        with suppress(RunError):  # a broken table is named if it is the one to compare
            if (is_alike or not in_same_way) and (shared := len(anchor.answers.keys() & other.answers.keys())):
                ranks[stem] = is_alike, shared, stem == anchor.stem
    return stored[max(ranks, key=ranks.__getitem__)] if ranks else None


def _are_alike(one: ComparedEvaluation, other: ComparedEvaluation) -> bool:
    """Tell whether two evaluations were judged in the same way, as far as their models know the same classes."""
    differing = {what for what, value in one.way.items() if other.way[what] != value}
    if differing != {"classes"}:
        return not differing
    whole, part = (one, other) if other.classes == "shared" else (other, one)
    return not whole.classes_of_data <= part.run.classes


def _outdated(compared: Sequence[EvaluatedRun], stem: str) -> ComparedEvaluation:
    """Return what is known of an evaluation that no run has: that of an earlier epoch, or else the first run's own."""
    run = next((run for run in compared if run.facts(stem)), compared[0])
    return ComparedEvaluation(run=run, stem=stem, facts=run.facts(stem))


# Commands


def command_to_compare(first: ComparedEvaluation, run: EvaluatedRun, second: ComparedEvaluation | None = None) -> str:
    """Return the command that evaluates one of two runs on the images of the other.

    It is the second run that is evaluated, unless only its images are the own ones of a run, or only they are here.

    Args:
        first: an evaluation.
        run: another run.
        second: the evaluation of this run; None: it has none.

    Raises:
        RunError: there is no such command.
    """
    if second and _is_here(second) and (not _is_here(first) or (_is_own(second) and not _is_own(first))):
        return _evaluating(first.run, second)
    return _evaluating(run, first)


def _evaluating(run: EvaluatedRun, on: ComparedEvaluation) -> str:
    """Return the command that evaluates a run on the images of an evaluation of another one, in the same way."""
    model = on.model_in(run.folder, run.asked)
    if is_same_data(run.fingerprint, on.data):
        split = "test" if on.part == "all" else on.part
        run.check_judges(split)
        return eval_command(model, split=split, views=on.views, classes=on.classes, where=run.where)
    classes = _classes_for(run, on.classes_of_data, on.run.name)
    found = "test" if on.part == "all" else on.place[1]
    return eval_command(
        model,
        data=_words_of(on),
        split=found,
        views=on.views,
        classes=classes if on.classes == "all" else on.classes,
        where=run.where,
    )


def _classes_for(run: EvaluatedRun, classes: frozenset[str], other: str) -> str:
    """Return the classes that a run can choose among for images of some classes, as ``--classes`` takes them.

    Raises:
        RunError: it knows fewer than two of them.
    """
    known = run.classes
    if not (known and classes) or classes <= known:
        return "all"
    if len(shared := known & classes) < 2:
        which = f"only the class {min(shared)!r}" if shared else "no class"
        raise RunError(f"{other} and {run.name} have {which} in common, so they cannot be compared")
    return "shared"


def _is_own(each: ComparedEvaluation) -> bool:
    return is_same_data(each.run.fingerprint, each.data)


def _is_here(each: ComparedEvaluation) -> bool:
    data = _words_of(each)[0]
    return find_dataset(data) is not None or expanded(data).exists()


def _words_of(each: ComparedEvaluation) -> list[str]:
    """Return the data set of an evaluation, and its table of labels, as ``vit eval`` takes them."""
    if each.facts.get("data"):
        return each.words
    run = each.run.runs[0]
    return [str(run.config["data"]["name"] if each.dataset == run.info["dataset"] else each.dataset)]
