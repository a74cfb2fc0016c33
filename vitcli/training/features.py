"""A frozen backbone sees each image once; the head is trained on what it made of them."""

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
    """Shuffled batches of features (B, D), of another view of the images in every epoch.

    Args:
        views: one set of batches per view.
    """

    def __init__(self, views: list[Batches]) -> None:
        self.views = views

    @property
    def num_images(self) -> int:
        """Images per epoch."""
        return self.views[0].num_images

    @property
    def batch_size(self) -> int:
        """Images per batch."""
        return self.views[0].batch_size

    def __len__(self) -> int:
        return len(self.views[0])

    def epoch(self, number: int, *, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, counted from 1, from step ``start`` on."""
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
    """Batches of features for training and validation.

    Args:
        model: on its device.
        data: the images.
        config: how many views of them, and how they are changed.
        device: where it is computed, and where batches go.
        precision: what it is computed in.
        cache: the file that keeps the features; where it is there, as in a run that is resumed, they are not computed.
        place: of several processes, each trains and validates with its share of the features.
        emit: told about the progress.
        stop: asked after every batch.

    Raises:
        Interrupted: it said so.
    """
    # The images, once for every view
    to_input = InputTransform(data.preprocessing, device)
    augment = TrainTransform(config.augment, to_input)
    views = max(config.augment.feature_views, 1)
    passes = {
        f"train.{view}": Batches(
            data.train.images,
            data.train.labels,
            members=torch.from_numpy(data.members),
            batch_size=_BATCH,
            transform=augment,
            device=device,
            seed=config.run.seed + view,
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

    # Their features: from the cache, or computed
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

    # The batches
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
    """The features that were computed before; None: there are none, or the file is broken."""
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
    for images, targets in batches:
        features.append(in_micro_batches(model.features, images, precision, micro_batches).cpu())
        labels.append(targets.cpu())
        progress.add(len(targets))
    return torch.cat(features), torch.cat(labels)


def _as_they_are(features: Tensor, *_drawn: object) -> Tensor:
    return features
