"""Name what is in images."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vitcli.core.errors import DataError, UsageError
from vitcli.core.events import Emit, TaskProgress, ignore
from vitcli.data.preprocess import load_array
from vitcli.workflows.images import image_files
from vitcli.workflows.loading import LoadedModel, load_model


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """One image: its classes by falling probability (0..1), or why it could not be read."""

    path: Path
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictResult:
    """One row per image, in the order given."""

    model: str
    rows: tuple[Prediction, ...]


def predict(
    inputs: Sequence[str],
    *,
    model: str = "",
    top_k: int = 1,
    output_dir: Path = Path("experiments"),
    device: str = "auto",
    batch_size: int = 64,
    offline: bool = False,
    emit: Emit = ignore,
) -> PredictResult:
    """Predict the classes of images; an unreadable one gets an error, never a substitute.

    Args:
        inputs: files, folders and patterns.
        model: a run or checkpoint; empty: the newest finished run.
        top_k: classes per image.
        output_dir: where runs are.
        device: auto, cpu, cuda, cuda:N or mps.
        batch_size: images per batch.
        offline: fetch no weights.
        emit: told about the progress.

    Raises:
        DataError: an input that is not there.
    """
    if top_k < 1 or batch_size < 1:
        raise UsageError(f"top-k {top_k} and batch size {batch_size} must be positive")
    files = image_files(inputs)
    loaded = load_model(model, output_dir=output_dir, device=device, offline=offline, emit=emit)
    rows: list[Prediction] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(files), batch_size):
            emit(TaskProgress(task="predicting", done=start, total=len(files)))
            batch = files[start : start + batch_size]
            rows += _predict_batch(batch, list(pool.map(lambda file: _read(file, loaded), batch)), loaded, top_k)
    emit(TaskProgress(task="predicting", done=len(files), total=len(files)))
    return PredictResult(model=loaded.name, rows=tuple(rows))


def _read(file: Path, loaded: LoadedModel) -> NDArray[np.uint8] | DataError:
    try:
        return load_array(file, loaded.checkpoint.preprocessing.geometry)
    except DataError as error:
        return error


def _predict_batch(
    files: Sequence[Path], arrays: Sequence[NDArray[np.uint8] | DataError], loaded: LoadedModel, top_k: int
) -> list[Prediction]:
    """One row per file, in order; only what could be read goes through the model."""
    rows = {
        file: Prediction(path=file, error=array.message)
        for file, array in zip(files, arrays, strict=True)
        if isinstance(array, DataError)
    }
    readable = [file for file in files if file not in rows]
    if readable:
        images = np.stack([array for array in arrays if not isinstance(array, DataError)])
        rows |= dict(zip(readable, _ranked(readable, images, loaded, top_k), strict=True))
    return [rows[file] for file in files]


@torch.inference_mode()
def _ranked(files: Sequence[Path], images: NDArray[np.uint8], loaded: LoadedModel, top_k: int) -> list[Prediction]:
    """The most probable classes of images (B, C, h, w)."""
    names = loaded.checkpoint.classes
    with loaded.precision.autocast():
        logits = loaded.model(loaded.to_input(torch.from_numpy(images).to(loaded.device)))
    probabilities, indices = logits.float().softmax(dim=1).topk(min(top_k, len(names)), dim=1)
    return [
        Prediction(path=file, classes=tuple(names[index] for index in row), probabilities=tuple(values))
        for file, row, values in zip(files, indices.tolist(), probabilities.tolist(), strict=True)
    ]
