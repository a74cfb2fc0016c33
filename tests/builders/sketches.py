"""A stand-in for figures of matplotlib, which take longer to build than tiny models take to train."""

from typing import Any, Self

import numpy as np
from matplotlib.transforms import IdentityTransform


class Sketch:
    """A figure, and each of its parts: it takes everything that is drawn, and keeps nothing."""

    dpi = width = 1.0
    transAxes = dpi_scale_trans = IdentityTransform()  # noqa: N815

    def __init__(self, *, figsize: tuple[float, float], **_options: Any) -> None:
        self.figsize = figsize

    def get_figwidth(self) -> float:
        return self.figsize[0]

    def get_figheight(self) -> float:
        return self.figsize[1]

    def set_canvas(self, canvas: object) -> None:
        self.canvas = canvas

    def subplots(self, rows: int = 1, columns: int = 1, *, squeeze: bool = True, **_options: Any) -> Any:
        grid = np.full((rows, columns), self)
        return (grid.squeeze() if grid.size > 1 else self) if squeeze else grid

    def get_ticklabels(self) -> list[Self]:
        return [self]

    def get_legend_handles_labels(self) -> tuple[list[object], list[str]]:
        return [], []

    def __getattr__(self, name: str) -> Self:
        if name.startswith("__"):  # such as what numpy asks for
            raise AttributeError(name)
        return self

    def __getitem__(self, _key: object) -> Self:
        return self

    def __call__(self, *_given: Any, **_options: Any) -> Self:
        return self
