"""The results of explaining images."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitcli.data.decoding import Box
from vitcli.explaining.maps import AttentionMap


@dataclass(frozen=True, kw_only=True, slots=True)
class ExplainedImage:
    """The result for one image: prediction, maps and files, or the reason why it could not be read."""

    image: str
    """Name of the image."""
    source: str = ""
    """The path of the image's file, else its name."""
    stem: str = ""
    """The start of the names of the image's files."""
    predicted: str = ""
    """The most probable class; empty: the image could not be read."""
    probability: float | None = None
    """Probability of this class; None: the image could not be read, or the model has fewer than two classes."""
    truth: str | None = None
    """The true class: of the data set, or the name of the file's folder if it is a class of the model; None: not known."""
    query: tuple[int, int] | None = None
    """The patch, (row, column), whose attention the maps show."""
    box: Box | None = None
    """The part of the picture that the model saw: left, top, right, bottom in pixels of the picture."""
    maps: tuple[AttentionMap, ...] = ()
    """The maps, by method and class."""
    figures: Mapping[str, Path] = field(default_factory=dict)
    """Name of the picture -> its file."""
    arrays: Path | None = None
    """The file of maps and logits."""
    error: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionReport:
    """The results for all images."""

    model: str
    checkpoint: Path
    parameters: Mapping[str, Any]
    """The settings that the maps were computed with."""
    images: tuple[ExplainedImage, ...]
    """The result for each image."""
    sheets: tuple[Path, ...] = ()
    """Files of the pictures that show several images."""
    page: Path | None = None
    """The file of the web page; None: not asked for."""
    report: Path | None = None
    """The file that stores these results; None: not stored."""


def as_json(report: AttentionReport) -> dict[str, Any]:
    """Convert a report to JSON, without the maps' values, which are in separate files."""
    return {
        "model": report.model,
        "checkpoint": str(report.checkpoint),
        "parameters": report.parameters,
        "sheets": [str(path) for path in report.sheets],
        "page": str(report.page) if report.page else None,
        "images": [
            {
                "image": each.image,
                "source": each.source,
                "stem": each.stem,
                "predicted": each.predicted,
                "probability": each.probability,
                "truth": each.truth,
                "query": each.query,
                "box": each.box,
                "maps": [
                    {name: getattr(one, name) for name in ("method", "target", "probability", "prefix_share")}
                    for one in each.maps
                ],
                "figures": {name: str(path) for name, path in each.figures.items()},
                "arrays": str(each.arrays) if each.arrays else None,
                "error": each.error,
            }
            for each in report.images
        ],
    }
