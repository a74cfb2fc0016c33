"""Image files from a user's input: files, folders and patterns."""

import glob
from collections.abc import Sequence
from pathlib import Path

from vitcli.core.errors import DataError
from vitcli.data.sources.image_folder import IMAGE_SUFFIXES, find_images


def image_files(inputs: Sequence[str]) -> list[Path]:
    """List every file once, in the given order; folders stand for all images below them, and patterns are expanded.

    Raises:
        DataError: an input does not exist, or a folder has no images.
    """
    files: dict[Path, None] = {}
    for text in inputs:
        files |= dict.fromkeys(_expand(text))
    return list(files)


def _expand(text: str) -> list[Path]:
    path = Path(text).expanduser()
    places = [path] if path.exists() else sorted(map(Path, glob.glob(str(path), recursive=True)))  # noqa: PTH207
    if not places:
        raise DataError(f"no such image: {text}", hint="give files, folders, or patterns such as 'photos/*.jpg'")
    files = [file for place in places for file in (find_images(place) if place.is_dir() else [place])]
    if not files:
        raise DataError(f"{text} has no images", hint=f"image files end in {' '.join(sorted(IMAGE_SUFFIXES))}")
    return files
