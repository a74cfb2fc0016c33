"""Image files from a user's input: files, folders and patterns."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from vitcli.core.addresses import without_secrets
from vitcli.core.errors import DataError
from vitcli.core.events import Emit, Warned, ignore
from vitcli.core.files import expanded
from vitcli.data.sources.image_folder import mind_links
from vitcli.data.sources.image_search import (
    IMAGE_SUFFIXES,
    LINKED_FOLDERS,
    LINKED_TO_NOTHING,
    PassedOver,
    find_images,
    in_order,
    in_words,
)


def image_files(inputs: Sequence[str], emit: Emit = ignore, passed_over: PassedOver | None = None) -> list[Path]:
    """List every file once, in the given order; folders stand for all images below them, and patterns are expanded.

    A link to an image that does not exist counts as an image, which cannot be read.

    Args:
        inputs: files, folders and patterns.
        emit: receives a warning that counts the files in folders that are not images.
        passed_over: receives these files, by kind.

    Raises:
        DataError: an input does not exist or is a web address, or a folder has no images.
    """
    files: dict[Path, None] = {}
    for text in inputs:
        files |= dict.fromkeys(_expand(text, emit, {} if passed_over is None else passed_over))
    return list(files)


def found_images(text: str, emit: Emit = ignore, passed_over: PassedOver | None = None) -> list[Path] | DataError:
    """Return the images of one input, as ``image_files`` does, or the error if it has none.

    Raises:
        DataError: the input is a web address.
    """
    try:
        return image_files([text], emit, passed_over)
    except DataError as error:
        if is_address(text):
            raise
        return error


def is_address(text: str) -> bool:
    """Tell whether an input is a web address."""
    return text.lower().startswith(("https://", "http://"))


def _expand(text: str, emit: Emit, passed_over: PassedOver) -> list[Path]:
    if is_address(text):
        address = without_secrets(text)
        raise DataError(
            f"{address} is not fetched", hint="`vit predict --allow-urls` fetches it; all other commands take files"
        )
    path = expanded(text)
    places = [path] if path.exists() else sorted(map(Path, glob.glob(_in_any_case(str(path)), recursive=True)))  # noqa: PTH207
    if not places:
        raise DataError(f"no such image: {text}", hint="give files, folders, or patterns such as 'photos/*.jpg'")
    files = [
        file for place in places for file in (_images_below(place, emit, passed_over) if place.is_dir() else [place])
    ]
    if not files:
        raise DataError(f"{text} has no images", hint=f"image files end in {' '.join(sorted(IMAGE_SUFFIXES))}")
    return files


def _in_any_case(pattern: str) -> str:
    """Let the ending of a pattern match in upper and lower case: ``*.jpg`` also finds ``A.JPG``."""
    start, ending = os.path.splitext(pattern)  # noqa: PTH122
    if not glob.has_magic(start) or ending.lower() not in IMAGE_SUFFIXES:
        return pattern
    return start + "".join(f"[{each.lower()}{each.upper()}]" if each.isalpha() else each for each in ending)


def _images_below(folder: Path, emit: Emit, passed_over: PassedOver) -> list[Path]:
    others: PassedOver = {}
    files = find_images(folder, others)
    broken = [path for path in map(Path, others.pop(LINKED_TO_NOTHING, ())) if path.suffix.lower() in IMAGE_SUFFIXES]
    mind_links(others, folder, emit)
    others.pop(LINKED_FOLDERS, None)
    if others:
        emit(Warned(text=f"not images, so ignored in {folder}: {in_words(in_order(others, folder))}"))
    for kind, names in others.items():
        passed_over.setdefault(kind, []).extend(names)
    return sorted([*files, *broken], key=lambda path: path.parts)
