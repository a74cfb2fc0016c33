"""A single web page for many images: all maps, and the attention of every patch, without any other file."""

import base64
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from string import Template
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from vitcli.core.files import replacing
from vitcli.figures.attention_overlay import panel
from vitcli.figures.attention_style import MapPicture, Style, Subject
from vitcli.figures.attention_words import NORM_WORDS, prediction_of, truth_of
from vitcli.figures.offline_page import page_parts, picture_address, safe_json

MOST_BYTES = 8_000_000
"""Bytes for the attention of one image, at most: 12 layers, 12 heads and 197 tokens take 5.6 million."""

_LEVELS = 255


class Page:
    """A page that is being written, one image after the other; ``attention_page`` creates it."""

    def __init__(self, file: TextIO, style: Style, most_bytes: int) -> None:
        self._file = file
        self._style = style
        self._most_bytes = most_bytes

    def add(
        self,
        subject: Subject,
        maps: Sequence[MapPicture],
        *,
        attention: NDArray[np.float32] | None = None,
        layers: Sequence[str] = (),
        heads: Sequence[str] = (),
        prefix: Sequence[str] = (),
    ) -> None:
        """Write an image, its maps, and its attention probabilities.

        Args:
            subject: the image.
            maps: one map or more, all with the same grid.
            attention: the attention probabilities, (L, H, N, N), rows are queries. Every row is rounded to 255 steps of
                its largest entry. If all heads are larger than the page allows, their mean is written instead; if that
                is still too large, attention is left out. The page says so.
            layers: names of the L layers.
            heads: names of the H heads.
            prefix: names of the tokens before the h w patches, for example ``("class token",)``.
        """
        rows, columns = maps[0].weights.shape
        tokens = len(prefix) + rows * columns
        note, kept_heads = "", list(heads)
        if attention is not None:
            assert attention.shape == (len(layers), len(heads), tokens, tokens), (
                "a name for every layer, head and token"
            )
            attention, note = self._that_fits(attention)
            if attention is not None and attention.shape[1] != len(heads):
                kept_heads = [f"mean of {len(heads)} heads"]
        height, width = panel(subject.pixels, least=self._style.min_size).shape[:2]
        facts = {
            "name": subject.name,
            "verdict": " · ".join(filter(None, (prediction_of(subject), truth_of(subject)))),
            "isRight": subject.is_right,
            "png": picture_address(subject.pixels),
            "size": [width, height],
            "grid": [rows, columns],
            "tokens": tokens,
            "maps": [_map_facts(each, (rows, columns)) for each in maps],
            "attention": None
            if attention is None
            else {"layers": list(layers), "heads": kept_heads, "prefix": list(prefix)},
            "attentionNote": note,
        }
        self._file.write(f'<script type="application/json" class="image">{safe_json(facts)}</script>\n')
        if attention is not None:
            packed = base64.b64encode(packed_attention(attention)).decode()
            self._file.write(f'<script type="text/plain">{packed}</script>\n')

    def _that_fits(self, attention: NDArray[np.float32]) -> tuple[NDArray[np.float32] | None, str]:
        exact = f"Attention is rounded: every value is within 1/{2 * _LEVELS} of the largest of its row."
        layers, heads, tokens, _ = attention.shape
        if attention.size <= self._most_bytes:
            return attention, exact
        if layers * tokens**2 <= self._most_bytes:
            words = f"The {heads} heads are shown as their mean: all of them would take {attention.size / 1e6:.3g} MB."
            return attention.mean(axis=1, keepdims=True), f"{words} {exact}"
        return None, f"Attention from patch to patch is left out: it would take {layers * tokens**2 / 1e6:.3g} MB."


@contextmanager
def attention_page(
    path: Path, *, title: str, notes: Sequence[str] = (), style: Style | None = None, most_bytes: int = MOST_BYTES
) -> Iterator[Page]:
    """Write a page that needs no other file and no network; the file appears when the block succeeds.

    Args:
        path: the HTML file.
        title: the title of the page.
        notes: paragraphs below the title.
        style: the initial style of the maps; bicubic is drawn as bilinear.
        most_bytes: the limit for the attention of one image, before compression.
    """
    style = style or Style()
    settings = {
        "tables": [
            base64.b64encode(style.colours(is_signed=is_signed).tobytes()).decode() for is_signed in (False, True)
        ],
        "alpha": style.alpha,
        "norm": style.norm,
        "normWords": NORM_WORDS[style.norm],
        "smooth": style.interp != "nearest",
    }
    *halves, values = page_parts("attention_page", title=title, notes=notes)
    head, tail = (Template(half).substitute(values, settings=safe_json(settings)) for half in halves)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
        file.write(head)
        yield Page(file, style, most_bytes)
        file.write(tail)


def packed_attention(attention: NDArray[np.float32]) -> bytes:
    """Compress attention, (L, H, N, N): the largest entry of each row as float32, then bytes in 255ths of it."""
    assert np.isfinite(attention).all(), "attention with NaN or infinity"
    largest = attention.max(axis=-1, keepdims=True)
    steps = np.rint(attention / np.where(largest > 0, largest, 1) * _LEVELS)
    return zlib.compress(largest.astype("<f4").tobytes() + steps.astype(np.uint8).tobytes(), level=3)


def _map_facts(picture: MapPicture, grid: tuple[int, int]) -> dict[str, Any]:
    assert picture.weights.shape == grid, "all maps of an image have one grid"
    assert np.isfinite(picture.weights).all(), "a map with NaN or infinity"
    return {
        "method": picture.method,
        "target": picture.target,
        "unit": picture.unit,
        "isSigned": picture.is_signed,
        "values": [float(f"{value:.9g}") for value in picture.weights.ravel()],  # nine digits give a float32 exactly
    }
