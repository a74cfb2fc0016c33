"""Tests of a model's attention maps, on files or a split: which method to trust, and which fails sanity checks."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from vitcli.core.errors import DataError, UsageError
from vitcli.core.events import Emit, Warned, ignore
from vitcli.core.files import unused_end, with_end, write_json, writing_in
from vitcli.explaining.checks import CheckTable, check_methods
from vitcli.explaining.explainer import images_at_once
from vitcli.explaining.images import ImageSource, ImageToExplain
from vitcli.explaining.scores import JudgedBatch, ScoreTable, score_methods
from vitcli.explaining.wanted import Wanted
from vitcli.trained.loading import LoadedModel


@dataclass(frozen=True, kw_only=True, slots=True)
class Trust:
    """The results of the tests, and where they are stored."""

    model: str
    checkpoint: Path
    scores: ScoreTable | None
    """The scores; None: not asked for."""
    checks: CheckTable | None
    """The sanity checks; None: not asked for."""
    stored: tuple[Path, ...]
    """The files ``scores.json``, with the scores of every image, and ``checks.json``; a number is added to names that
    earlier commands have used. Empty: not stored, because the model is outside of runs."""


def judge_attention(
    source: ImageSource,
    wanted: Wanted,
    *,
    scores: bool = True,
    checks: bool = False,
    output: Path | None = None,
    emit: Emit = ignore,
) -> Trust:
    """Score the maps of several methods and of noise, or run sanity checks on the methods, or both.

    Args:
        source: the model and the images.
        wanted: the methods (empty: all), and the class to explain.
        scores: whether to score faithfulness.
        checks: whether to run the sanity checks, which randomise weights.
        output: the folder for ``scores.json`` and ``checks.json``; None: the run's folder of attention maps.
        emit: receives the progress.

    Raises:
        UsageError, DataError, ModelError, RunError: something does not exist, or settings contradict each other.
    """
    if output and (output.is_file() or output.suffix):
        raise UsageError(f"{output} is not a folder, but scores and checks are separate files", hint="give a folder")
    if wanted.query:
        raise UsageError("--query cannot be combined with --score or --check", hint="leave --query out")
    loaded, images = source.open(emit, needs_head=True)
    tell = emit if wanted.methods else ignore  # of all methods, some ignore an option
    question = (wanted if wanted.methods else replace(wanted, methods=("all",))).question(loaded, tell)
    folder = output or (loaded.run.attention_dir if loaded.run else None)
    if folder:
        with writing_in(folder):
            folder.mkdir(parents=True, exist_ok=True)
    trust = Trust(model=loaded.name, checkpoint=loaded.path, scores=None, checks=None, stored=())
    total, names = len(images), list[str]()
    if scores:
        table = score_methods(loaded.model, _batches(loaded, images, names, emit), question, total=total, emit=emit)
        trust = replace(trust, scores=table)
    if checks:
        batches = _batches(loaded, images, [] if scores else names, ignore if scores else emit)
        trust = replace(trust, checks=check_methods(loaded.model, batches, question, total=total, emit=emit))
    for name, result in (("scores", trust.scores), ("checks", trust.checks)):
        if folder and result:
            path = folder / f"{name}.json"
            path = with_end(path, unused_end(path))
            write_json(path, {"model": trust.model, "names": names, **asdict(result)})
            trust = replace(trust, stored=(*trust.stored, path))
    return trust


def _batches(
    loaded: LoadedModel, images: Sequence[ImageToExplain], names: list[str], emit: Emit
) -> Iterator[JudgedBatch]:
    """Yield batches of images on the device, with labels if all are known; append the images' names to ``names``."""
    has_truth = all(image.truth is not None for image in images)
    size = images_at_once(loaded.checkpoint.model)
    for start in range(0, len(images), size):
        pixels, labels = [], []
        for image in images[start : start + size]:
            try:
                pixels.append(image.read())
                labels.append(image.truth)
                names.append(image.name)
            except DataError as error:
                emit(Warned(text=f"left out: {error.message}"))
        if pixels:
            yield JudgedBatch(
                images=loaded.to_input(torch.from_numpy(np.stack(pixels)).to(loaded.device)),
                labels=torch.tensor(labels, device=loaded.device) if has_truth else None,
            )
