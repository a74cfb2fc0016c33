"""Features of a frozen backbone: computed once per image, and used to train the head in every epoch."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vitcli.core.config import TrainConfig
from vitcli.core.events import Emit, TaskProgress
from vitcli.core.files import replacing
from vitcli.core.interrupts import StopRequest
from vitcli.core.launch import ALONE, Place
from vitcli.core.seeds import derived_seed
from vitcli.data.augment import TrainTransform
from vitcli.data.loader import Batch, Batches
from vitcli.data.preprocess import InputTransform
from vitcli.engine.autocast import Precision
from vitcli.engine.checkpoint import write_tensors
from vitcli.engine.evaluate import in_micro_batches
from vitcli.engine.micro_batches import MicroBatches
from vitcli.models.vit import VisionTransformer
from vitcli.training.images import TrainingData

_BATCH = 64


class FeatureBatches:
    """Shuffled batches of features (B, D); epochs use the views of the images in turn.

    Args:
        views: the batches of each view.
    """

    def __init__(self, views: list[Batches]) -> None:
        self.views = views

    @property
    def num_images(self) -> int:
        """The number of images per epoch."""
        return self.views[0].num_images

    @property
    def batch_size(self) -> int:
        """The number of images per batch."""
        return self.views[0].batch_size

    def __len__(self) -> int:
        return len(self.views[0])

    def epoch(self, number: int, *, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, counted from 1, from step ``start`` on."""
        return self.views[(number - 1) % len(self.views)].epoch(number, start=start)


def feature_batches(
    model: VisionTransformer,
    data: TrainingData,
    config: TrainConfig,
    *,
    device: torch.device,
    precision: Precision,
    cache: Path,
    place: Place = ALONE,
    emit: Emit,
    stop: StopRequest,
) -> tuple[FeatureBatches, Batches]:
    """Compute the features of all images, or read them from the cache; return batches for training and validation.

    Args:
        model: the model, on its device.
        data: the images.
        config: the complete configuration, with the number of views and the augmentation.
        device: the device of the model and of the batches.
        precision: the precision to compute in.
        cache: the file of the features; if it exists, as in a resumed run, they are read from it.
        place: the rank of this process and the number of processes; each uses its share of the features.
        emit: receives the progress.
        stop: the stop request, checked after every batch.

    Raises:
        Interrupted: a signal asked to stop.
    """
    # Pass over the training images once per view, and over the validation images once
    to_input = InputTransform(data.preprocessing, device)
    augment = TrainTransform(config.augment, to_input)
    views = max(config.augment.feature_views, 1)
    passes = {
        f"train.{view}": Batches(
            data.train.images,
            data.train.labels,
            stretch=data.train.stretch,
            members=torch.from_numpy(data.members),
            batch_size=_BATCH,
            transform=augment,
            device=device,
            seed=derived_seed("view", config.run.seed, view) if view else config.run.seed,
        )
        for view in range(views)
    }
    passes["val"] = Batches(
        data.val.images,
        data.val.labels,
        members=torch.from_numpy(data.val_members),
        batch_size=_BATCH,
        transform=to_input,
        device=device,
    )

    # Read the features from the cache, or compute them
    total = sum(each.num_images for each in passes.values())
    kept = _kept(cache)
    if kept is None:
        progress = _Progress(total, emit, stop)
        model.eval()
        kept = {}
        for name, batches in passes.items():
            kept[name], kept[f"{name}.labels"] = _features(model, batches, precision, progress)
        with replacing(cache) as temporary:
            write_tensors(temporary, kept)

    # Make batches of the features
    def batches_of(name: str, size: int, *, balanced: bool = False) -> Batches:
        return Batches(
            kept[name],
            kept[f"{name}.labels"],
            batch_size=size,
            transform=_as_they_are,
            device=device,
            seed=config.run.seed,
            balanced=balanced,
            place=place,
        )

    size, balanced = config.optim.batch_size, config.data.balanced_sampling
    train = FeatureBatches([batches_of(f"train.{view}", size, balanced=balanced) for view in range(views)])
    return train, batches_of("val", total)


def _kept(cache: Path) -> dict[str, Tensor] | None:
    """Read the features that were computed before; None: the file is missing or broken."""
    try:
        return load_file(cache)
    except (FileNotFoundError, SafetensorError):
        return None


class _Progress:
    def __init__(self, total: int, emit: Emit, stop: StopRequest) -> None:
        self.total, self.emit, self.stop, self.done = total, emit, stop, 0
        self.add(0)

    def add(self, count: int) -> None:
        if self.stop:
            raise self.stop.error("while features were computed")
        self.done += count
        self.emit(TaskProgress(task="computing features", done=self.done, total=self.total))


@torch.no_grad()
def _features(
    model: VisionTransformer, batches: Iterable[Batch], precision: Precision, progress: _Progress
) -> tuple[Tensor, Tensor]:
    features, labels = [], []
    micro_batches = MicroBatches(1, emit=progress.emit)
    model = precision.rounded(model)
    for images, targets in batches:
        features.append(in_micro_batches(model, images, precision, micro_batches, forward=model.features).cpu())
        labels.append(targets.cpu())
        progress.add(len(targets))
    return torch.cat(features), torch.cat(labels)


def _as_they_are(features: Tensor, *_drawn: object) -> Tensor:
    return features
