"""The images that a model answers wrongly, or is least sure of."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitcli.core.errors import FileError, counted, some
from vitcli.core.events import Emit, Warned
from vitcli.core.files import check_output_folder
from vitcli.core.short_names import class_slugs
from vitcli.judging.answers import Answers, Floats, Ints


def surest_mistakes(answers: Answers, most: int) -> NDArray[np.int64]:
    """Return the wrong answers with the highest confidence, the surest first, at most ``most``."""
    wrong = np.flatnonzero(~answers.is_right)
    return wrong[np.argsort(-answers.confidence[wrong], kind="stable")[:most]]


def least_sure(answers: Answers, most: int) -> NDArray[np.int64]:
    """Return the answers with the smallest margin, right or wrong, the smallest first, at most ``most``."""
    return np.argsort(answers.margin, kind="stable")[:most]


def surest_of_each_class(truth: Ints, predicted: Ints, confidence: Floats, most: int) -> Ints:
    """Return the surest mistakes, at most ``most``: of each true class one before any has a second one."""
    wrong = np.flatnonzero(predicted != truth)
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")]
    return wrong[np.lexsort((-confidence[wrong], _place_in_group(truth[wrong])))[:most]]


def most_telling(truth: Ints, predicted: Ints, confidence: Floats, *, most_of_pair: int) -> Ints:
    """Order images for people: mistakes, the surest first; then right answers, each class in turn, the least sure first.

    Args:
        truth: true classes, (N,).
        predicted: predicted classes, (N,).
        confidence: the probabilities of these, (N,).
        most_of_pair: images with the same true and predicted class, at most; the others are left out.
    """
    is_right = predicted == truth
    order = np.lexsort((np.where(is_right, confidence, -confidence), is_right))
    place = _place_in_group(truth[order] * (int(max(truth.max(), predicted.max())) + 1) + predicted[order])
    kept, place = order[place < most_of_pair], place[place < most_of_pair]
    wrong = int((~is_right[kept]).sum())
    return np.concatenate([kept[:wrong], kept[wrong:][np.argsort(place[wrong:], kind="stable")]])


def _place_in_group(groups: Ints) -> Ints:
    """Return for each entry how many entries of its group come before it, (N,)."""
    order = np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups[order], groups[order])
    places = np.empty(len(groups), dtype=np.int64)
    places[order] = np.arange(len(groups)) - starts
    return places


def check_free_folder(folder: Path) -> None:
    """Refuse a folder for mistakes that holds something already, or cannot be written."""
    check_output_folder(folder, "--mistakes")
    if folder.exists() and any(folder.iterdir()):
        raise FileError(f"{folder} exists already and is not empty", hint="--mistakes takes a new folder")


def sort_mistakes(
    answers: Answers,
    files: Sequence[Path] | None,
    folder: Path,
    *,
    links: bool,
    save: Callable[[int, Path], None],
    emit: Emit,
) -> int:
    """Sort wrongly answered images into folders ``TRUTH__PREDICTION``, and return the number of those that were sorted.

    A file's name begins with the probability of the prediction, in percent, so that a listing begins with the least
    sure ones.

    Args:
        answers: the answers.
        files: the file of each image, in the same order; None: there are no files.
        folder: a new folder.
        links: make symbolic links instead of copies.
        save: a function that writes the picture at an index to a PNG file, for images without files.
        emit: receives a warning about images that cannot be copied.
    """
    failed: list[str] = []
    wrong = np.flatnonzero(~answers.is_right).tolist()
    names = class_slugs(answers.classes)
    digits = len(str(len(answers)))
    for at in wrong:
        place = folder / f"{names[int(answers.truth[at])]}__{names[int(answers.predicted[at])]}"
        start = f"{100 * float(answers.confidence[at]):03.0f}-{at:0{digits}d}"
        try:
            place.mkdir(parents=True, exist_ok=True)
            if files is None:
                save(at, place / f"{start}.png")
            elif links:
                (place / f"{start}-{files[at].name}").symlink_to(files[at].resolve())
            else:
                shutil.copyfile(files[at], place / f"{start}-{files[at].name}")
        except OSError as error:  # a name that is too long, or a file that is gone; the others count all the same
            failed.append(f"{files[at] if files else at}: {error.strerror or error}")
    if failed:
        emit(Warned(text=f"{counted(len(failed), 'mistake')} could not be sorted into {folder}: {some(failed, 3)}"))
    return len(wrong) - len(failed)
