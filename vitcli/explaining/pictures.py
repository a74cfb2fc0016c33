"""The output files of one explained image."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from vitcli.attention.registry import METHODS
from vitcli.core.errors import UsageError
from vitcli.core.files import check_output_file, check_output_folder, replacing
from vitcli.explaining.explainer import Explainer
from vitcli.explaining.maps import AttentionMap
from vitcli.figures.attention_gif import write_gif
from vitcli.figures.attention_map import draw_map, draw_query
from vitcli.figures.attention_page import Page
from vitcli.figures.attention_sheets import draw_blocks, draw_comparison, draw_heads
from vitcli.figures.attention_style import Style, Subject
from vitcli.figures.board import PICTURES


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """The pictures to draw; by default, one picture per map."""

    compare: bool = False
    """All methods side by side, and noise."""
    heads_grid: bool = False
    """The attention of every head, as a grid of layers x heads."""
    blocks: bool = False
    """The map of each layer alone."""
    gif: bool = False
    """An animation of the map of each layer."""
    page: bool = False
    """One HTML page for all images."""
    full: bool = False
    """The whole picture, with a frame around the part that the model saw."""
    style: Style = field(default_factory=Style)
    arrays: Literal["npz", "safetensors", "none"] = "npz"
    """The format of the file for maps and logits."""
    file: Path | None = None
    """The file for the only picture: PNG, PDF or SVG; None: PNG files that are named after their images."""

    @property
    def single_maps(self) -> bool:
        """Tell whether every map gets its own picture."""
        return not (self.compare or self.heads_grid or self.blocks or self.gif or self.page)

    @property
    def wants_all_layers(self) -> bool:
        """Tell whether the attention of every layer is drawn."""
        return self.heads_grid or self.blocks or self.gif or self.page


def is_picture_file(output: Path | None) -> bool:
    """Tell whether the path is for one picture; folders that exist, and names like ``maps`` or ``maps.v2``, are not.

    Raises:
        UsageError: the path is for a file that is not a picture: it exists, or its ending has two letters or more.
        FileError: nothing can be written there.
    """
    if output is None:
        return False
    if output.is_dir():
        check_output_folder(output)
        return False
    ending = output.suffix.lower()
    if ending not in PICTURES and (output.is_file() or (ending.isascii() and sum(map(str.isalpha, ending)) > 1)):
        folder = f"--output {shlex.quote(str(output.with_suffix('')))}/, the folder for what --gif and --html write"
        raise UsageError(
            f"{output}: a picture is a {', '.join(PICTURES[:-1])} or {PICTURES[-1]} file",
            hint=folder
            if ending in {".gif", ".html"}
            else f"--output {shlex.quote(str(output.with_suffix('.pdf')))}, or a folder",
        )
    if ending not in PICTURES:
        check_output_folder(output)
        return False
    check_output_file(output)
    return True


def draw_pictures(
    subject: Subject,
    maps: Sequence[AttentionMap],
    explainer: Explainer,
    at: int,
    drawing: Drawing,
    place: Path,
) -> dict[str, Path]:
    """Draw all requested pictures of one image.

    Args:
        subject: the image.
        maps: the maps of the image.
        explainer: the explainer of the image's batch.
        at: the index of the image in the batch.
        drawing: the pictures to draw.
        place: the folder of the files, and the start of their names.

    Returns:
        Name of the picture -> its file.
    """
    style, files = drawing.style, dict[str, Path]()
    for each in maps if drawing.single_maps else ():
        files[each.label] = drawing.file or _beside(place, f"{each.label}.png")
        if each.query:
            plain = replace(each.picture, method=each.method)
            draw_query(subject, each.query, plain, files[each.label], style, full=drawing.full)
        else:
            draw_map(subject, each.picture, files[each.label], style, full=drawing.full)
    if drawing.compare:
        files["compare"] = drawing.file or _beside(place, "compare.png")
        draw_comparison(subject, [each.picture for each in maps], files["compare"], style)
    if drawing.heads_grid:
        files["heads"] = drawing.file or _beside(place, "heads.png")
        _draw_heads(subject, explainer, at, files["heads"], style)
    for each in maps:
        if (drawing.blocks or drawing.gif) and METHODS[each.method].looks_at_layers:
            files |= _draw_layers(subject, each, explainer, at, drawing, _beside(place, each.label))
    return files


def _draw_heads(subject: Subject, explainer: Explainer, at: int, path: Path, style: Style) -> None:
    weights = explainer.head_maps()[at].cpu().numpy()
    heads = _head_names(explainer, weights.shape[1])
    query, columns = explainer.question.query, explainer.model.config.grid[1]
    where = "" if query is None else ", of patch {}, {}".format(*divmod(query, columns))
    title = f"attention of every head{where}"
    draw_heads(subject, weights, path, style, layers=_names(explainer), heads=heads, method=title)


def add_to_page(page: Page, subject: Subject, maps: Sequence[AttentionMap], explainer: Explainer, at: int) -> None:
    """Add an image, its maps, and the attention of every patch to the page."""
    attention = explainer.attention(at).cpu().numpy()
    config = explainer.model.config
    named = ["class token"] * config.class_token + ["distillation token"] * (config.distillation != "none")
    registers = [f"register {number}" for number in range(config.num_registers)]
    page.add(
        subject,
        [each.picture for each in maps],
        attention=attention,
        layers=_names(explainer),
        heads=_head_names(explainer, attention.shape[1]),
        prefix=named + registers,
    )


def _draw_layers(
    subject: Subject, wanted: AttentionMap, explainer: Explainer, at: int, drawing: Drawing, start: Path
) -> dict[str, Path]:
    """Draw the maps that each layer alone gives."""
    maps = [explainer.map(wanted.method, wanted.slot, layers=[layer])[0][at] for layer in explainer.layers]
    weights = np.stack([each.cpu().numpy() for each in maps])
    picture, layers, files = wanted.picture, _names(explainer), dict[str, Path]()
    if drawing.blocks:
        file = files[f"{wanted.label}.blocks"] = drawing.file or _beside(start, "blocks.png")
        draw_blocks(subject, weights, file, drawing.style, layers=layers, method=picture.name)
    if drawing.gif:
        file = files[f"{wanted.label}.gif"] = _beside(start, "gif")
        write_gif(subject, weights, file, drawing.style, layers=layers, method=picture.name, unit=picture.unit)
    return files


def _beside(place: Path, ending: str) -> Path:
    return place.with_name(f"{place.name}.{ending}")


def _names(explainer: Explainer) -> list[str]:
    return [f"layer {layer}" for layer in explainer.layers]


def _head_names(explainer: Explainer, count: int) -> list[str]:
    return [f"head {head}" for head in explainer.question.heads or range(count)]


def save_arrays(path: Path, arrays: Mapping[str, NDArray[np.float32]]) -> bool:
    """Write named arrays as ``.npz`` or ``.safetensors``, depending on the file name; atomically.

    Arrays with other names that the file has already, of other methods or classes, are kept if the model gives the image
    the same logits; else they are maps of a model that was trained on since, or of another image.

    Returns:
        True if the file has all its earlier maps still, and the same logits.
    """
    before = _arrays_of(path)
    old, new = before.get("logits", np.zeros(0, np.float32)), arrays["logits"]
    is_same = old.shape == new.shape and np.allclose(old, new, rtol=1e-4, atol=1e-5)
    arrays = {**(before if is_same else {}), **arrays}
    with replacing(path) as temporary:
        if path.suffix == ".npz":
            with temporary.open("wb") as file:
                np.savez(file, **cast("dict[str, Any]", arrays))
        else:
            save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary)
    return is_same and all(np.array_equal(arrays[name], each) for name, each in before.items() if name != "logits")


def _arrays_of(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read the arrays of a file that ``save_arrays`` wrote; empty if there is none, or if it is broken."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        return load_file(path)
    except (OSError, EOFError, ValueError, SafetensorError, BadZipFile):
        return {}
