"""Files of earlier commands in a folder of attention maps, and names with which none of them is overwritten."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NotRequired, TypedDict

from vitcli.attention.registry import METHODS
from vitcli.core.files import ends
from vitcli.core.stored import read_json
from vitcli.explaining.images import ImageToExplain

_KINDS = {*METHODS, "compare", "heads", "npz", "safetensors"}
"""Words that follow the stem in the names of an image's files."""


class _Image(TypedDict):
    source: NotRequired[str]
    stem: NotRequired[str]


class _Report(TypedDict):
    checkpoint: str
    images: list[_Image]


def with_free_stems(images: Sequence[ImageToExplain], folder: Path, checkpoint: Path) -> list[ImageToExplain]:
    """Give each image a stem that no other image has in the folder; an image that was explained before keeps its stem.

    A stem is also taken if the folder has files with such names that no report lists.

    Args:
        images: the images.
        folder: the folder of the output files.
        checkpoint: the model; the same image explained by another model counts as another image.
    """
    stem_of: dict[tuple[str, str], str] = {}
    for file in sorted(folder.glob("report*.json")):
        try:
            report: _Report = read_json(file, _Report)
        except (OSError, ValueError):  # it is not one of ours
            continue
        known = [(each["source"], each["stem"]) for each in report["images"] if {"source", "stem"} <= each.keys()]
        stem_of |= {(report["checkpoint"], source): stem for source, stem in known}
    taken = {*stem_of.values(), *_stems_of_files(folder)}
    chosen = []
    for image in images:
        key = str(checkpoint), image.source
        if key not in stem_of:
            stem_of[key] = next(stem for end in ends() if (stem := f"{image.stem}{end}") not in taken)
            taken.add(stem_of[key])
        chosen.append(replace(image, stem=stem_of[key]))
    return chosen


def _stems_of_files(folder: Path) -> Iterator[str]:
    """Yield the stems for which a folder has files with names as those of pictures and arrays."""
    for path in folder.glob("*.*"):
        parts = path.name.split(".")
        for at, kind in enumerate(parts):
            if kind in _KINDS or kind.startswith("query-"):
                yield ".".join(parts[:at])
