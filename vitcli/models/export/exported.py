"""The result of writing a model for another library: what the library made of it."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from torch import Tensor

from vitcli.core.files import write_json
from vitcli.core.stored import read_json
from vitcli.core.version import __version__

MADE_BY = "vitcli_version"
"""The entry of ``config.json`` that tells an export of vit from other folders."""


class Exported(NamedTuple):
    """A model as another library loads it, with the preprocessing that the library does."""

    run: Callable[[Tensor], Tensor]
    """The function from model input, (B, C, H, W), to logits, (B, K)."""
    prepare: Callable[[Image.Image], Tensor] | None = None
    """The library's function from an image to model input, (C, H, W); None: the library has none."""


def mark(folder: Path) -> None:
    """Mark an exported folder as made by vit, so that ``--overwrite`` may replace it."""
    config = folder / "config.json"
    write_json(config, {**read_json(config), MADE_BY: __version__})
