"""The parts of web pages that need no other file and no network."""

import base64
import hashlib
import io
import json
from collections.abc import Sequence
from html import escape
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_MARK = '<meta name="generator" content="vit">'


def picture_address(pixels: NDArray[np.uint8], *, lossy: bool = False) -> str:
    """Return a picture, (C, H, W), as an address that holds the whole file: a PNG file, or if ``lossy``, a JPEG file."""
    file, kind = io.BytesIO(), "jpeg" if lossy else "png"
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(file, format=kind)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def safe_json(value: Any) -> str:
    """Encode a value as JSON whose text cannot close the HTML element around it."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def page_parts(name: str, *, title: str, notes: Sequence[str]) -> tuple[str, str, dict[str, str]]:
    """Read the template of a page, which begins with the same head and style as every page.

    Args:
        name: the name of its files beside this module: HTML, CSS and JavaScript.
        title: the title of the page.
        notes: paragraphs below the title.

    Returns:
        The template above the images, the template below them, and the values for the names that all pages have.
    """
    head, tail = (_file("offline_page.html") + _file(f"{name}.html")).split("$images")
    style, script = _file("offline_page.css") + _file(f"{name}.css"), _file(f"{name}.js")
    values = {
        "title": escape(title),
        "notes": "\n".join(f"<p>{escape(note)}</p>" for note in notes),
        "style": style,
        "style_hash": _hash(style),
        "script": script,
        "script_hash": _hash(script),
    }
    return head, tail, values


def start_of_page() -> str:
    """Return the text that every page of vit begins with, and no other file."""
    return f"{_file('offline_page.html').partition(_MARK)[0]}{_MARK}"


def _file(name: str) -> str:
    return resources.files("vitcli.figures").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return the hash of a script or a style by which a page allows it, and no other."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
