"""The comparison of two runs by their stored answers to the same images."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from vitcli.core.errors import DataError, counted
from vitcli.core.events import Emit, Note, Warned
from vitcli.core.runs import predictions_file
from vitcli.judging.evaluated_runs import EvaluatedRun, models_of
from vitcli.judging.pairs import Pair, matched
from vitcli.judging.same_images import Facts, command_to_compare
from vitcli.judging.tables import StoredAnswer, read_predictions


def compare_pair(
    first: EvaluatedRun, second: EvaluatedRun, stems: tuple[str, str], stored: tuple[Facts, Facts], emit: Emit
) -> Pair:
    """Compare the answers of two runs to the images that both were evaluated on.

    Args:
        first: a run.
        second: another run.
        stems: the names of their evaluations.
        stored: the facts of these.
        emit: receives notes and warnings.

    Raises:
        DataError: they were evaluated on different images.
    """
    answers = [
        read_predictions(predictions_file(each.folder, stem)) for each, stem in zip((first, second), stems, strict=True)
    ]
    command = command_to_compare(first, stems[0], stored[0], second, stored[1])
    hint = f"`{command}` evaluates it on the images of the other"
    _check_same_data(first, second, stems, stored, answers, hint, emit)
    pair, both = matched((first.name, second.name), (answers[0], answers[1])), f"{first.name} and {second.name}"
    if not pair:
        raise DataError(
            f"{both} were evaluated on different images ({_joined(stems)}): they share none of {len(answers[0]):,} and"
            f" {len(answers[1]):,}",
            hint=hint,
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
    for each, stem, known in zip((first, second), stems, stored, strict=True):
        if known.get("held_out") is False and stem == "test":
            emit(Warned(text=f"{each.name}: these images were scored in training, so they were not held out"))
    are_calibrated = [bool(known.get("calibrated", known.get("temperature"))) for known in stored]
    if len(set(are_calibrated)) > 1:
        with_it, without = (first, second) if are_calibrated[0] else (second, first)
        probabilities = f"the probabilities of {with_it.name} are calibrated, those of {without.name} are not"
        emit(Note(text=f"{probabilities}: part of the difference in loss may come from that"))
    validated = [each for each, stem in zip((first, second), stems, strict=True) if stem in {"val", "out-of-fold"}]
    if chosen := [each.name for each in validated if each.keeps_best]:
        emit(Note(text=f"validation images chose the epoch of {' and '.join(chosen)}, so scores may be too high"))
    return replace(pair, evaluations=stems, models=(len(models_of(stored[0])), len(models_of(stored[1]))))


def _check_same_data(
    first: EvaluatedRun,
    second: EvaluatedRun,
    stems: tuple[str, str],
    stored: tuple[Facts, Facts],
    answers: Sequence[Mapping[str, StoredAnswer]],
    hint: str,
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
    found = {known.get("found_in", stem) for known, stem in zip(stored, stems, strict=True)}
    if prints[0] == prints[1] and (have_files or len(found) == 1):
        return
    if names[0] != names[1] or not have_files:
        raise DataError(
            f"{first.name} and {second.name} were evaluated on different images ({_joined(stems)}): {names[0]} and"
            f" {names[1]}" + ("" if names[0] != names[1] else ", which has changed in between"),
            hint=hint,
        )
    emit(
        Warned(
            text=f"the images or labels of {names[0]} changed between the evaluations of {first.name} and"
            f" {second.name}: they are matched by their names"
        )
    )


def _joined(stems: tuple[str, str]) -> str:
    return " and ".join(dict.fromkeys(stems))
