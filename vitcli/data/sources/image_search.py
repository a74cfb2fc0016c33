"""The image files below a folder, and the other files there, which are ignored but counted; standard library only."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from vitcli.core.errors import DataError, some

IMAGE_SUFFIXES = frozenset(
    [
        ".avif",
        ".bmp",
        ".dib",
        ".gif",
        ".heic",
        ".heif",
        ".ico",
        ".j2k",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".mpo",
        ".pbm",
        ".pcx",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".qoi",
        ".sgi",
        ".tga",
        ".tif",
        ".tiff",
        ".webp",
    ]
)
_NO_IMAGES = frozenset(
    [
        ".csv",
        ".gz",
        ".h5",
        ".html",
        ".json",
        ".jsonl",
        ".log",
        ".mat",
        ".md",
        ".mp4",
        ".npy",
        ".npz",
        ".pdf",
        ".pt",
        ".pth",
        ".py",
        ".tar",
        ".toml",
        ".txt",
        ".xml",
        ".yaml",
        ".yml",
        ".zip",
    ]
)
"""Endings of files that are not opened to look for an image."""
NO_DATA = (".", "__MACOSX", "@eaDir")
"""The first letters of files and folders that a system adds: hidden ones, and those of macOS and of Synology."""
_SIGNATURES = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"\0\0\0\x0cjP  ", b"qoif")
"""The first bytes of image files: PNG, JPEG, GIF, JPEG 2000, QOI."""
_SIGNATURES_WITHOUT_ENDING = (b"II*\0", b"MM\0*", b"BM")
"""The first bytes of TIFF and BMP: raw files of cameras, which have endings of their own, begin like TIFF."""
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_OF_THE_SYSTEM = {"thumbs.db", "desktop.ini"}
LINKED_FOLDERS, LINKED_TO_NOTHING = "linked folders", "linked to nothing"
"""Kinds of ignored files."""

INSTEAD_OF_LINKS = "link class folders or single images, or `cp -rL FOLDER COPY` makes a folder without links"

PassedOver = dict[str, list[str]]
"""Ignored files, by kind."""


def without_images(message: str, folder: Path, passed_over: PassedOver, *, hint: str = "") -> DataError:
    """Return the error about a folder without images, with the reason: links, files of other kinds, or nothing."""
    if any(Path(link).is_relative_to(folder) for link in passed_over.get(LINKED_FOLDERS, ())):
        return DataError(f"{message}, except in linked folders, which are not followed", hint=INSTEAD_OF_LINKS)
    counting = f"image files end in {' '.join(sorted(IMAGE_SUFFIXES))}"
    return DataError(message, hint=hint or (counting if any(folder.iterdir()) else "add some, or remove the folder"))


def find_images(folder: Path, passed_over: PassedOver | None = None) -> list[Path]:
    """List all image files below a folder, sorted; hidden files and folders are skipped.

    A file is an image if its ending says so. A file with another ending or with none is an image if its first bytes
    say so.

    Args:
        folder: the folder.
        passed_over: receives all other files, by kind.
    """
    names = image_names(os.fspath(folder), {} if passed_over is None else passed_over)
    return [Path(name) for name in sorted(names, key=lambda name: name.split(os.sep))]  # noqa: PTH206


def image_names(folder: str, passed_over: PassedOver) -> Iterator[str]:
    """Yield the paths of image files as strings, because there may be a million, and ``Path`` objects are slow."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(NO_DATA):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from image_names(entry.path, passed_over)
            elif entry.is_file() and is_image(entry.path):
                yield entry.path
            elif entry.name.lower() not in _OF_THE_SYSTEM:
                passed_over.setdefault(_kind(entry), []).append(entry.path)


def is_image(path: str) -> bool:
    """Tell whether a file is an image, by its ending or its first bytes."""
    ending = os.path.splitext(path)[1].lower()  # noqa: PTH122
    if ending in IMAGE_SUFFIXES or ending in _NO_IMAGES or os.path.basename(path).lower() in _OF_THE_SYSTEM:  # noqa: PTH119
        return ending in IMAGE_SUFFIXES
    start = b""
    with suppress(OSError), open(path, "rb") as file:  # noqa: PTH123
        start = file.read(16)
    return (
        start.startswith(_SIGNATURES)
        or (not ending and start.startswith(_SIGNATURES_WITHOUT_ENDING))
        or start[8:12] == b"WEBP"
        or start[4:12] in {b"ftypavif", b"ftypavis"}
        or is_heic(start)
    )


def is_heic(start: bytes) -> bool:
    """Tell whether a file is a HEIC image, by its first 12 bytes."""
    return start[4:8] == b"ftyp" and start[8:12] in _HEIC_BRANDS


def in_order(passed_over: PassedOver, folder: Path) -> dict[str, tuple[str, ...]]:
    """Sort ignored files: kinds by their number of files, largest first, and files by their names below the folder."""
    kinds = sorted(passed_over.items(), key=lambda item: (-len(item[1]), item[0]))
    return {kind: tuple(sorted(os.path.relpath(name, folder) for name in names)) for kind, names in kinds}


def in_words(passed_over: Mapping[str, Sequence[str]]) -> str:
    """List ignored files by kind, with their number and some names."""
    return ", ".join(f"{len(names):,} {kind} ({some(names)})" for kind, names in passed_over.items())


def _kind(entry: "os.DirEntry[str]") -> str:
    """Return the kind of an ignored file, such as its ending."""
    if entry.is_symlink() and not entry.is_file():
        return LINKED_FOLDERS if entry.is_dir() else LINKED_TO_NOTHING
    return Path(entry.name).suffix.lower() or "without an ending"
