"""Attention maps: pictures of the patches of an image that a prediction depends on."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitcli.attention.registry import METHODS
from vitcli.attention.targets import ClassChoice, class_indices, probability_of
from vitcli.core.errors import DataError, FileError, UsageError, counted, some
from vitcli.core.events import Emit, Note, TaskProgress, Warned, ignore
from vitcli.core.files import unused_end, write_json
from vitcli.data.preprocess import crop_box
from vitcli.explaining.earlier import with_free_stems
from vitcli.explaining.explainer import Explainer, images_at_once
from vitcli.explaining.images import ImageSource, ImageToExplain
from vitcli.explaining.maps import AttentionMap, maps_of
from vitcli.explaining.pictures import Drawing, add_to_page, draw_pictures, is_picture_file, save_arrays
from vitcli.explaining.question import Question
from vitcli.explaining.report import AttentionReport, ExplainedImage, as_json
from vitcli.explaining.wanted import Wanted, patch_at
from vitcli.figures.attention_page import attention_page
from vitcli.figures.attention_sheets import draw_sheet
from vitcli.figures.attention_style import Norm, Subject, is_nearly_even
from vitcli.figures.board import is_drawn_by_vit
from vitcli.trained.loading import LoadedModel

_NEARLY_EVEN = 0.01
"""The difference of the two highest probabilities below which rounding may decide which class is predicted."""
_MANY = 100
"""With more images, one is told how to explain fewer."""


def attention_maps(
    source: ImageSource,
    wanted: Wanted,
    drawing: Drawing,
    *,
    sheet: bool = False,
    output: Path | None = None,
    emit: Emit = ignore,
) -> AttentionReport:
    """Explain images and draw the maps; an image that cannot be read gets an error instead of maps.

    Args:
        source: the model and the images, which are read a few at a time.
        wanted: the maps to compute.
        drawing: the pictures to draw.
        sheet: draw one sheet of all images for each method and class, instead of pictures of each image.
        output: the folder for the files, or a ``.png``, ``.pdf`` or ``.svg`` file for a single picture; None: the run's
            folder of attention maps, or the current folder.
        emit: receives the progress.

    Raises:
        UsageError, DataError, ModelError, RunError: something does not exist, or settings contradict each other; found
            before anything is written.
    """
    is_file = is_picture_file(output)
    loaded, images = source.open(emit)
    question = wanted.question(loaded, emit, compares=drawing.compare, all_layers=drawing.wants_all_layers)
    if drawing.blocks or drawing.gif:
        _check_layers(question, emit)
    folder = output or (loaded.run.attention_dir if loaded.run else Path())
    if output and is_file:
        _check_one_picture(output, drawing, images, question, is_sheet=sheet)
        folder, drawing = output.parent, replace(drawing, file=output, arrays="none")
    if len(images) > _MANY and not source.limit:
        emit(Note(text=f"all {len(images):,} images are explained; --limit 24 takes 24 of them at random"))
    earlier = set(folder.glob("*"))
    images = with_free_stems(images, folder, loaded.path)
    end = unused_end(folder / "report.json", *([folder / "attention.html"] if drawing.page else ()))
    report = AttentionReport(
        model=loaded.name, checkpoint=loaded.path, parameters=_parameters(loaded, question, source), images=()
    )
    found, nearly_even = list[ExplainedImage](), list[str]()
    sheets: dict[str, list[tuple[Subject, AttentionMap]]] = {}
    html = folder / f"attention{end}.html" if drawing.page else None
    try:
        with attention_page(html, title=loaded.name, style=drawing.style) if html else nullcontext() as page:
            for one in _explained(loaded, images, question, wanted.query, emit):
                if isinstance(one, ExplainedImage):
                    found.append(one)
                    continue
                subject = _subject(one, loaded, full=drawing.full)
                nearly_even += [one.image.name] * _is_nearly_even(one.explainer.logits[one.at])
                found.append(_write(one, subject, loaded, drawing, folder, earlier, draws=not sheet))
                if page:
                    add_to_page(page, subject, one.maps, one.explainer, one.at)
                for each in one.maps if sheet else ():
                    label = each.method if len(question.choices) == 1 else each.label
                    sheets.setdefault(label, []).append((subject, each))
                del one  # frees its batch before the next one is computed
        drawn = tuple(_draw_sheets(sheets, folder, drawing, report.model, end))
        report = replace(report, sheets=drawn, page=html)
    finally:
        _tell_what_shows_little(found, drawing.style.norm, emit)
        _tell_other_precision(nearly_even, loaded, emit)
        report = replace(report, images=tuple(found))
        _tell_what_was_replaced(report, earlier, emit)
        if any(each.maps for each in found) and not drawing.file:
            report = replace(report, report=folder / f"report{end}.json")
            write_json(folder / f"report{end}.json", as_json(report))
    if not any(each.maps for each in found):
        what = f"none of {len(found):,} images can be read: " if len(found) > 1 else ""
        raise DataError(f"{what}{found[0].error}", hint="give other images")
    return report


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Explained:
    """One image with its maps, before they are drawn."""

    image: ImageToExplain
    pixels: NDArray[np.uint8]
    explainer: Explainer
    at: int
    """The index of the image in the explainer's batch."""
    maps: Sequence[AttentionMap]


def _explained(
    loaded: LoadedModel, images: Sequence[ImageToExplain], question: Question, query: str, emit: Emit
) -> Iterator[_Explained | ExplainedImage]:
    """Yield every image in order, with its maps or the reason why it cannot be read; one batch is in memory."""
    task, size = "drawing attention", 1 if query else images_at_once(loaded.checkpoint.model)
    for start in range(0, len(images), size):
        emit(TaskProgress(task=task, done=start, total=len(images)))
        batch = [(image, _read(image, emit if len(images) > 1 else ignore)) for image in images[start : start + size]]
        good = [(image, pixels) for image, pixels in batch if not isinstance(pixels, DataError)]
        ready = iter(_explain_batch(loaded, good, question, query) if good else ())
        for image, pixels in batch:
            yield (
                ExplainedImage(image=image.name, error=pixels.message) if isinstance(pixels, DataError) else next(ready)
            )
    emit(TaskProgress(task=task, done=len(images), total=len(images)))


def _read(image: ImageToExplain, emit: Emit) -> NDArray[np.uint8] | DataError:
    try:
        return image.read()
    except DataError as error:
        emit(Warned(text=error.message))
        return error


def _explain_batch(
    loaded: LoadedModel,
    batch: Sequence[tuple[ImageToExplain, NDArray[np.uint8]]],
    question: Question,
    query: str,
) -> Iterator[_Explained]:
    if query:
        patch = patch_at(query, batch[0][0].size(), loaded, name=batch[0][0].name)
        question = replace(question, query=patch[0] * loaded.checkpoint.model.grid[1] + patch[1])
    pixels = torch.from_numpy(np.stack([array for _, array in batch])).to(loaded.device)
    seeds = [image.seed for image, _ in batch]
    explainer = Explainer(loaded.model, loaded.to_input(pixels), question, seeds=seeds)
    explanation = explainer.explanation()
    for at, (image, array) in enumerate(batch):
        maps = list(maps_of(explanation, at, question, loaded.checkpoint.classes))
        yield _Explained(image=image, pixels=array, explainer=explainer, at=at, maps=maps)


def _is_nearly_even(logits: Tensor) -> bool:
    """Tell whether the two most probable classes differ so little that rounding may decide between them."""
    if len(logits) < 2:
        return False
    first, second = logits.softmax(dim=0).topk(2).values.tolist()
    return bool(first - second < _NEARLY_EVEN)


def _tell_other_precision(names: Sequence[str], loaded: LoadedModel, emit: Emit) -> None:
    """Say that other commands may predict another class for these images, if they compute in another precision."""
    if names and loaded.checkpoint.classes and loaded.precision.name != "float32":
        other = f"maps are computed in float32, `vit predict` and `vit eval` in {loaded.precision.name}"
        emit(
            Note(
                text=f"{some(names)}: two classes are almost equally probable; {other}, so they may name the other one"
            )
        )


def _tell_what_shows_little(images: Sequence[ExplainedImage], norm: Norm, emit: Emit) -> None:
    """Report maps whose weights are all 0 or almost all equal, in one line for many maps."""
    empty, even = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for image in images:
        for each in image.maps:
            is_even = is_nearly_even(each.weights, is_signed=each.picture.is_signed)
            if is_even or not each.weights.any():
                (even if is_even else empty)[each.picture.name].append(image.image)
    for label, names in empty.items():
        emit(Warned(text=f"{label}: all weights are 0, there is nothing to see in {some(names)}"))
    if even:
        count = counted(sum(map(len, even.values())), "map")
        what = f"{', '.join(even)}: all patches weigh almost the same in {count}"
        shown = norm in {"p99", "minmax"}
        colours = ", so their colours begin at the minimum" if shown else "; --norm minmax shows the differences"
        emit(Note(text=what + colours))


def _tell_what_was_replaced(report: AttentionReport, earlier: set[Path], emit: Emit) -> None:
    """Name the files that an earlier command wrote for the same image, with other options or with the same."""
    written = {*report.sheets, *(file for each in report.images for file in (*each.figures.values(), each.arrays))}
    if replaced := sorted(map(str, earlier & written)):
        emit(Note(text=f"replaced {some(replaced)}; another --output keeps both"))


def _subject(one: _Explained, loaded: LoadedModel, *, full: bool) -> Subject:
    """Collect the facts about an image that its pictures show: pixels, true and predicted class."""
    classes, logits = loaded.checkpoint.classes, one.explainer.logits[one.at]
    subject = Subject(
        name=Path(one.image.name).name,
        pixels=one.pixels,
        truth=None if one.image.truth is None else classes[one.image.truth],
    )
    if classes:  # without classes, the logits are features
        best = int(class_indices([ClassChoice()], logits[None])[0, 0])
        subject = replace(subject, predicted=classes[best], probability=probability_of(logits, best))
    if not full:
        return subject
    whole = one.image.read_whole()
    _, height, width = whole.shape
    return replace(subject, whole=whole, box=crop_box((height, width), loaded.checkpoint.preprocessing.geometry))


def _write(
    one: _Explained,
    subject: Subject,
    loaded: LoadedModel,
    drawing: Drawing,
    folder: Path,
    earlier: set[Path],
    *,
    draws: bool,
) -> ExplainedImage:
    """Draw the pictures of one image, and write its arrays; a file of them that only grew is taken out of ``earlier``."""
    query = one.maps[0].query
    place = folder / (one.image.stem + ("" if query is None else ".query-{}-{}".format(*query)))
    files = draw_pictures(subject, one.maps, one.explainer, one.at, drawing, place) if draws else {}
    arrays = None
    if drawing.arrays != "none":
        arrays = place.with_name(f"{place.name}.{drawing.arrays}")
        logits = one.explainer.logits[one.at].cpu().numpy()
        if save_arrays(arrays, {**{each.label: each.weights for each in one.maps}, "logits": logits}):
            earlier.discard(arrays)
    return ExplainedImage(
        image=one.image.name,
        source=one.image.source,
        stem=one.image.stem,
        predicted=subject.predicted,
        probability=subject.probability,
        truth=subject.truth,
        query=query,
        box=crop_box(one.image.size(), loaded.checkpoint.preprocessing.geometry),
        maps=tuple(one.maps),
        figures=files,
        arrays=arrays,
    )


def _check_layers(question: Question, emit: Emit) -> None:
    """Check that a method can explain single layers, and name the methods that cannot."""
    without = [name for name in question.methods if not METHODS[name].looks_at_layers]
    if len(without) == len(question.methods):
        raise UsageError(f"{', '.join(without)} cannot explain one layer alone", hint="--method relevance")
    if without:
        emit(Warned(text=f"no pictures of single layers for {', '.join(without)}, which cannot explain one layer"))


def _check_one_picture(
    output: Path, drawing: Drawing, images: Sequence[ImageToExplain], question: Question, *, is_sheet: bool
) -> None:
    """Check that exactly one picture is asked for, which fits into one file that is not an image to explain."""
    if len(images) > 1 and not is_sheet:
        raise UsageError(f"{output} is one file, but there are {len(images)} images", hint="give a folder")
    if any(image.file and image.file.resolve() == output.resolve() for image in images):
        raise UsageError(f"{output} is an image to explain, and would be replaced", hint="give another name")
    if output.is_file() and output.stat().st_size and not is_drawn_by_vit(output):
        what = "has no mark of a picture that vit drew, and would be replaced"
        raise FileError(f"{output} {what}", hint="remove it, or give another name")
    others = {"--gif": drawing.gif, "--html": drawing.page, "--arrays safetensors": drawing.arrays == "safetensors"}
    if kinds := " and ".join(option for option, is_asked in others.items() if is_asked):
        raise UsageError(f"{output} is a picture, but {kinds} writes other files", hint="give a folder")
    drawn = [METHODS[name] for name in question.methods if METHODS[name].looks_at_layers or not drawing.blocks]
    maps = sum(len(question.choices) if entry.chooses_class else 1 for entry in drawn)
    pictures = drawing.compare + drawing.heads_grid + maps * (drawing.blocks or drawing.single_maps)
    if pictures > 1:
        can_compare = drawing.single_maps and not is_sheet
        hint = "give a folder, or draw all maps side by side with --compare" if can_compare else "give a folder"
        raise UsageError(f"{output} is one file, but {pictures} pictures are asked for", hint=hint)


def _draw_sheets(
    sheets: Mapping[str, Sequence[tuple[Subject, AttentionMap]]], folder: Path, drawing: Drawing, title: str, end: str
) -> Iterator[Path]:
    for label, members in sheets.items():
        path = drawing.file or folder / f"sheet{end}.{label}.png"
        subjects, maps = zip(*members, strict=True)
        name = maps[0].method if label == maps[0].method else maps[0].picture.name
        draw_sheet(subjects, [each.picture for each in maps], path, drawing.style, title=f"{title}: {name}")
        yield path


def _parameters(loaded: LoadedModel, question: Question, source: ImageSource) -> dict[str, Any]:
    """Collect everything that the maps depend on, as JSON values."""
    config = loaded.checkpoint.model
    asked = {name: value for name, value in asdict(question).items() if name != "query"}  # each image has its own
    shown = ("inputs", "dataset", "split", "limit", "seed")
    return {
        **asked,
        "images": {name: getattr(source, name) for name in shown},
        "grid": config.grid,
        "prefix_tokens": config.num_prefix_tokens,
        "preprocessing": asdict(loaded.checkpoint.preprocessing),
        "epoch": loaded.checkpoint.provenance.get("epoch"),
    }
