"""The comparison of two runs by their stored answers to the same images."""

from collections.abc import Sequence
from dataclasses import replace

from vitcli.core.errors import DataError, RunError, VitError, counted
from vitcli.core.events import Emit, Note, Warned
from vitcli.core.fingerprints import is_same_data
from vitcli.core.words import seen_in_training
from vitcli.judging.compared_evaluation import ComparedEvaluation
from vitcli.judging.evaluated_runs import models_of
from vitcli.judging.pairs import Pair, matched
from vitcli.judging.same_images import command_to_compare


def compare_with_first(
    first: ComparedEvaluation, others: Sequence[ComparedEvaluation], emit: Emit
) -> tuple[list[Pair], dict[str, VitError]]:
    """Compare evaluations of runs with that of the first one; also return the errors of those that cannot be, by run.

    Args:
        first: the evaluation of the first run.
        others: those of the other runs.
        emit: receives notes and warnings.
    """
    pairs, errors = list[Pair](), dict[str, VitError]()
    for other in others:
        try:
            pairs.append(compare_pair(first, other, emit))
        except (DataError, RunError) as error:
            errors[other.run.name] = error
    return pairs, errors


def reason_in_words(first: str, other: str, error: VitError) -> str:
    """Say why a run is not compared with the first one."""
    return f"{other} is not compared with {first}: {error.message}"


def compare_pair(first: ComparedEvaluation, second: ComparedEvaluation, emit: Emit) -> Pair:
    """Compare the answers of two runs to the images that both were evaluated on.

    Args:
        first: the evaluation of a run.
        second: that of another run.
        emit: receives notes and warnings.

    Raises:
        DataError: they were evaluated on different images.
        RunError: a table of answers is broken.
    """
    names, stems, both = (first.run.name, second.run.name), (first.stem, second.stem), (first, second)
    in_words = f"{names[0]} and {names[1]}"
    _check_names(first, second, emit)
    pair = matched(names, (first.answers, second.answers))
    if not pair:
        count = len(first.answers.keys() & second.answers.keys())
        shared = f"they share none of {len(first.answers):,} and {len(second.answers):,}"
        if count:
            shared = f"all {count:,} images that they share have another label now"
        raise _different(first, second, shared)
    if pair.only_in_first or pair.only_in_second or pair.labelled_differently:
        relabelled = pair.labelled_differently
        labelled = f", {relabelled:,} that have another label now" if relabelled else ""
        emit(
            Warned(
                text=f"{in_words}: only {counted(pair.comparison.images, 'image is')} compared, on which both were"
                f" evaluated; left out: {pair.only_in_first:,} only of {names[0]}, {pair.only_in_second:,} only of"
                f" {names[1]}{labelled}"
            )
        )
    for each in both:
        _warn_of_training(each, emit)
    if differing := [
        f"{what} {value} and {second.way[what]}" for what, value in first.way.items() if second.way[what] != value
    ]:
        emit(Note(text=f"{in_words} were not evaluated in the same way: {'; '.join(differing)}"))
    are_calibrated = [bool(each.facts.get("calibrated", each.facts.get("temperature"))) for each in both]
    if len(set(are_calibrated)) > 1:
        with_it, without = names if are_calibrated[0] else names[::-1]
        probabilities = f"the probabilities of {with_it} are calibrated, those of {without} are not"
        emit(Note(text=f"{probabilities}: part of the difference in loss may come from that"))
    if chosen := [each.run.name for each in both if each.stem in {"val", "out-of-fold"} and each.run.keeps_best]:
        emit(Note(text=f"validation images chose the epoch of {' and '.join(chosen)}, so scores may be too high"))
    return replace(pair, evaluations=stems, models=(len(models_of(first.facts)), len(models_of(second.facts))))


def _check_names(first: ComparedEvaluation, second: ComparedEvaluation, emit: Emit) -> None:
    """Refuse to match images by name where the same name may be another image; warn if the data have changed."""
    have_files = not all(name.isdecimal() for each in (first, second) for name in each.answers)
    is_same = is_same_data(first.data, second.data)
    if is_same and (have_files or first.place[1] == second.place[1]):
        return
    if first.dataset != second.dataset or not have_files:
        changed = ", which has changed in between" if first.dataset == second.dataset and not is_same else ""
        raise _different(first, second, f"{first.dataset} and {second.dataset}{changed}")
    emit(
        Warned(
            text=f"the images or labels of {first.dataset} changed between the evaluations of {first.run.name} and"
            f" {second.run.name}: they are matched by their names"
        )
    )


def _different(first: ComparedEvaluation, second: ComparedEvaluation, why: str) -> DataError:
    """Return the error for evaluations on different images, with the command that evaluates one on those of the other."""
    stems = " and ".join(dict.fromkeys((first.stem, second.stem)))
    try:
        hint = f"`{command_to_compare(first, second.run, second)}` evaluates it on the images of the other"
    except RunError as error:
        hint = error.message
    return DataError(
        f"{first.run.name} and {second.run.name} were evaluated on different images ({stems}): {why}", hint=hint
    )


def _warn_of_training(each: ComparedEvaluation, emit: Emit) -> None:
    """Repeat the warnings of ``vit eval`` about images that had a part in training."""
    name = each.run.name
    if each.facts.get("held_out") is False and each.stem == "test":
        emit(Warned(text=f"{name}: these images were scored in training, so they were not held out"))
    for what, split in (("trained_on", "train"), ("chose_epoch_by", "val")):
        if count := each.facts.get(what, 0):
            images = f"{counted(count, 'image')} of {each.dataset}"
            emit(Warned(text=f"{seen_in_training([name], split, images)}: its scores are too high"))
