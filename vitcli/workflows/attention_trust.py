"""Put the maps of a model to the test, on files or on a split: which method is to be trusted, and is any insane?"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from vitcli.core.errors import DataError, UsageError
from vitcli.core.events import Emit, Warned, ignore
from vitcli.core.files import write_json, writing_in
from vitcli.explaining.checks import CheckTable, check_methods
from vitcli.explaining.explainer import images_at_once
from vitcli.explaining.images import ImageSource, ImageToExplain
from vitcli.explaining.scores import JudgedBatch, ScoreTable, score_methods
from vitcli.explaining.wanted import Wanted
from vitcli.trained.loading import LoadedModel


@dataclass(frozen=True, kw_only=True, slots=True)
class Trust:
    """The findings, and where they are kept."""

    model: str
    checkpoint: Path
    scores: ScoreTable | None
    checks: CheckTable | None
    stored: Path | None
    """The JSON file with all of it, every image's scores too; None: weights that lie in no run."""


def judge_attention(
    source: ImageSource,
    wanted: Wanted,
    *,
    scores: bool = True,
    checks: bool = False,
    output: Path | None = None,
    emit: Emit = ignore,
) -> Trust:
    """Score the maps of several methods beside noise, or check their sanity, or both.

    Args:
        source: the model and the images.
        wanted: the methods (none: all), and the class to ask about.
        scores: whether faithfulness is scored (``attention_scores``).
        checks: whether weights are randomised (``attention_checks``).
        output: folder for ``scores.json`` and ``checks.json``; None: the run's own.
        emit: told about the progress.

    Raises:
        UsageError, DataError, ModelError, RunError: something that is not there, or does not go together.
    """
    if output and (output.is_file() or output.suffix):
        raise UsageError(
            f"{output} is not a folder, and scores and checks are files of their own", hint="give a folder"
        )
    loaded, images = source.open(emit, needs_head=True)
    wanted = wanted if wanted.methods else replace(wanted, methods=("all",))
    question = wanted.question(loaded, ignore)
    folder = output or (loaded.run.attention_dir if loaded.run else None)
    if folder:
        with writing_in(folder):
            folder.mkdir(parents=True, exist_ok=True)
    trust = Trust(model=loaded.name, checkpoint=loaded.path, scores=None, checks=None, stored=folder)
    total, names = len(images), list[str]()
    if scores:
        table = score_methods(loaded.model, _batches(loaded, images, names, emit), question, total=total, emit=emit)
        trust = replace(trust, scores=table)
    if checks:
        batches = _batches(loaded, images, [], ignore if scores else emit)
        trust = replace(trust, checks=check_methods(loaded.model, batches, question, total=total, emit=emit))
    for name, result in (("scores", trust.scores), ("checks", trust.checks)):
        if folder and result:
            write_json(folder / f"{name}.json", {"model": trust.model, "names": names, **asdict(result)})
    return trust


def _batches(
    loaded: LoadedModel, images: Sequence[ImageToExplain], names: list[str], emit: Emit
) -> Iterator[JudgedBatch]:
    """Images on the device, a few at a time; labels where all of them are known; ``names`` are filled in as they come."""
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
