"""The probabilities of classes for image files: those of one model, or the mean of several."""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitcli.core.errors import DataError
from vitcli.core.events import Emit, TaskProgress
from vitcli.core.preprocessing import Geometry
from vitcli.data.preprocess import load_array
from vitcli.data.value_range import with_value_range
from vitcli.engine.evaluate import in_micro_batches
from vitcli.engine.micro_batches import MicroBatches
from vitcli.trained.loading import LoadedModel


def mean_probabilities(
    files: Sequence[Path], models: Sequence[LoadedModel], batch_size: int, emit: Emit
) -> Iterator[Tensor | DataError]:
    """Yield, for every file in order, the models' mean probabilities of the first one's classes, (K,), or an error."""
    stored = {model.checkpoint.preprocessing.geometry for model in models}
    geometries = with_value_range(stored, files, emit)
    micro_batches = MicroBatches(1, emit=emit)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(files), batch_size):
            emit(TaskProgress(task="predicting", done=start, total=len(files)))
            batch = files[start : start + batch_size]
            arrays = {
                key: list(pool.map(partial(_read, geometry=geometry), batch)) for key, geometry in geometries.items()
            }
            good = [at for at, array in enumerate(next(iter(arrays.values()))) if not isinstance(array, DataError)]
            mean = iter(_of_batch(models, arrays, good, micro_batches) if good else ())
            for array in next(iter(arrays.values())):
                yield array if isinstance(array, DataError) else next(mean)
    emit(TaskProgress(task="predicting", done=len(files), total=len(files)))


def _read(file: Path, geometry: Geometry) -> NDArray[np.uint8] | DataError:
    try:
        return load_array(file, geometry)
    except DataError as error:
        return error


@torch.inference_mode()
def _of_batch(
    models: Sequence[LoadedModel],
    arrays: Mapping[Geometry, Sequence[NDArray[np.uint8] | DataError]],
    good: Sequence[int],
    micro_batches: MicroBatches,
) -> Tensor:
    """Average the models' probabilities for the images that could be read, (B, K), on the CPU."""
    first = models[0].checkpoint.classes
    total = torch.zeros(len(good), len(first))
    for model in models:
        found = arrays[model.checkpoint.preprocessing.geometry]
        images = torch.from_numpy(np.stack([array for array in found if not isinstance(array, DataError)]))
        inputs = model.to_input(images.to(model.device))
        logits = model.checked(in_micro_batches(model.for_inference, inputs, model.precision, micro_batches))
        order = [model.checkpoint.classes.index(name) for name in first]
        total += logits.softmax(dim=1).cpu()[:, order]
    return total / len(models)
