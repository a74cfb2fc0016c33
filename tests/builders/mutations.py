"""Seeded mutations of files and settings: what a broken disk, another program or a hostile sender may leave."""

import copy
import io
import json
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, features

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 11, 2**31, 2**63, -(2**63), 0.5, -0.5, 1e-300, 1e308),
    *("", "x", "é\u202e\x1b[2J", "../..", "a" * 5000, [], [[]], [1], [1, 2], [0, 0], ["x"], {}, {"a": {}}),
)
"""Values that no reader expects, or that it expects somewhere else."""
DEEP = '{"a":' * 9000


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all nodes of a JSON value."""
    yield above
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*above, key))


def mutated(value: Any, draw: random.Random) -> Any:
    """A JSON value with one node replaced, removed or renamed."""
    value = copy.deepcopy(value)
    *above, last = draw.choice([place for place in places(value) if place] or [()]) or [None]
    inner = value
    for key in above:
        inner = inner[key]
    if last is None:
        return draw.choice(ODD)
    match draw.randrange(4):
        case 0 if isinstance(inner, dict):
            del inner[last]
        case 1 if isinstance(inner, dict):
            inner[f"{last}x"] = inner.pop(last)
        case _:
            inner[last] = draw.choice(ODD)
    return value


def mutated_text(text: str, draw: random.Random) -> str:
    """JSON text with a mutated value, or text that is no JSON any more."""
    match draw.randrange(12):
        case 0:
            return text[: draw.randrange(len(text) + 1)]
        case 1:
            return draw.choice(["", "[]", "null", "3", '"x"', "NaN", "\ufeff{}", DEEP, "9" * 6000])
        case _:
            return json.dumps(mutated(json.loads(text), draw))


def mutate_checkpoint(source: Path, target: Path, draw: random.Random) -> None:
    """Write a checkpoint with broken metadata, tensors or bytes."""
    content = source.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    body = content[8 + length :]
    match draw.randrange(10):
        case 0:  # bytes
            broken = bytearray(content)
            for _ in range(draw.randint(1, 20)):
                broken[draw.randrange(len(broken))] = draw.randrange(256)
            target.write_bytes(bytes(broken[: draw.choice([len(broken), draw.randrange(len(broken))])]))
            return
        case 1:  # the names, types and shapes of tensors
            names = [name for name in header if name != "__metadata__"]
            name = draw.choice(names)
            match draw.randrange(4):
                case 0:
                    header[f"{name}x"] = header.pop(name)
                case 1:
                    header[name]["shape"] = header[name]["shape"][::-1]
                case 2:
                    header[name]["dtype"] = draw.choice(["I32", "F64", "U8", "BOOL"])
                case _:
                    header[name], other = header[(second := draw.choice(names))], header[name]
                    header[second] = other
        case 2:  # values
            body = bytes(draw.randrange(256) for _ in range(64)) + body[64:]
        case _:
            key = draw.choice([key for key in header["__metadata__"] if key != "format"])
            header["__metadata__"][key] = mutated_text(header["__metadata__"][key], draw)
    text = json.dumps(header).encode()
    target.write_bytes(struct.pack("<Q", len(text)) + text + body)


def mutate_run(source: Path, target: Path, draw: random.Random) -> None:
    """Copy a run folder, with one of its JSON files broken."""
    shutil.copytree(source, target)
    file = draw.choice([path for path in target.rglob("*.json") if "attention" not in path.parts])
    text = mutated_text(file.read_text(), draw)
    file.unlink()
    file.mkdir() if draw.random() < 0.03 else file.write_text(text)


def mutate_sidecars(source: Path, target: Path, draw: random.Random) -> None:
    """Copy a folder of another library, with one of its configurations broken."""
    shutil.copytree(source, target)
    file = draw.choice(list(target.glob("*.json")))
    file.write_text(mutated_text(file.read_text(), draw))


def image_formats() -> list[tuple[str, str]]:
    """Endings and names of the formats that images are written in."""
    kinds = [("jpg", "JPEG"), ("png", "PNG"), ("gif", "GIF"), ("bmp", "BMP"), ("tif", "TIFF"), ("webp", "WEBP")]
    kinds += [("jp2", "JPEG2000"), ("ico", "ICO"), ("ppm", "PPM"), ("tga", "TGA"), ("pcx", "PCX"), ("sgi", "SGI")]
    return [*kinds, ("avif", "AVIF")] if "avif" in features.get_supported() else kinds


def mutate_image(folder: Path, draw: random.Random) -> Path:
    """Write a small image of any format and mode, with some bytes changed, cut or added, mostly in its header."""
    ending, kind = draw.choice(image_formats())
    mode = draw.choice(["L", "RGB", "RGBA", "P", "1", "I;16", "F", "CMYK", "LA"])
    pixels = np.random.default_rng(draw.randrange(2**32)).integers(256, size=(24, 40, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).convert("L" if mode == "I;16" else mode)
    image = image.convert("I").convert("I;16") if mode == "I;16" else image
    content = io.BytesIO()
    try:
        image.save(content, kind)
    except (OSError, ValueError, KeyError):  # the format does not have this mode
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, kind)
    broken = bytearray(content.getvalue())
    for _ in range(draw.choice([1, 1, 2, 5, 30])):
        at = draw.randrange(min(len(broken), 200)) if draw.random() < 0.7 else draw.randrange(len(broken))
        broken[at] = draw.choice([0, 255, 127, 128, draw.randrange(256)])
    if draw.random() < 0.2:
        broken = broken[: draw.randrange(len(broken))]
    path = folder / f"image.{ending}"
    path.write_bytes(bytes(broken))
    return path


def odd_setting(draw: random.Random, keys: list[str]) -> str:
    """A ``--set`` word with an odd value."""
    words = ["nan", "inf", "-inf", "-1", "0", "1e9", "1e308", "2147483648", "9" * 40, '""', "x", "[]", "[1]", "true"]
    return f"{draw.choice(keys)}={draw.choice([*words, '[1, 2]', '{a = 1}', '0.5', '3', '1x2', 'none'])}"


def odd_table(draw: random.Random, names: list[str]) -> bytes:
    """A table of labels with odd cells, rows or bytes."""
    cells = ["", "a", "b", "0", "1", "1.0", "nan", "9" * 5000, '"', "a\nb", "=1+1", "\x00", "é", "e\u0301", "a,b", "  "]
    rows = [["image", "label"]] if draw.random() < 0.8 else []
    rows += [[name, draw.choice(["a", "b"])] for name in names]
    for _ in range(draw.randint(1, 4)):
        row = draw.choice(rows)
        row[draw.randrange(len(row))] = draw.choice(cells)
        if draw.random() < 0.3:
            row.append(draw.choice(cells))
    text = draw.choice([",", ";", "\t", " "]).join(["{}", "{}"])
    content = "\n".join(text.format(*row[:2]) for row in rows).encode()
    return content if draw.random() < 0.8 else bytes(draw.randrange(256) for _ in range(200)) + content


Mutation = Callable[[random.Random], Any]
