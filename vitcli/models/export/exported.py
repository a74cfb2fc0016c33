"""The result of writing a model for another library: what the library made of it."""

from collections.abc import Callable
from typing import NamedTuple

from PIL import Image
from torch import Tensor


class Exported(NamedTuple):
    """A model as another library loads it, with the preprocessing that the library does."""

    run: Callable[[Tensor], Tensor]
    """The function from model input, (B, C, H, W), to logits, (B, K)."""
    prepare: Callable[[Image.Image], Tensor] | None = None
    """The library's function from an image to model input, (C, H, W); None: the library has none."""
