"""Train a Vision Transformer: settings to a run on disk."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import PIL
import safetensors
import torch
from torch import Tensor

from vitcli.core.config import AugmentConfig, Geometry, ModelConfig, Preprocessing, Size, TrainConfig
from vitcli.core.config_files import Settings, configure, load_recipe, settings_of
from vitcli.core.errors import Interrupted, ModelError
from vitcli.core.events import Emit, EpochRecord, Note, ignore
from vitcli.core.interrupts import stop_requests
from vitcli.core.runs import Run, check_free, next_name
from vitcli.data.augment import TrainTransform
from vitcli.data.cache import PreparedSplit, channel_statistics
from vitcli.data.dataset import Dataset, open_dataset
from vitcli.data.loader import Batches
from vitcli.data.preprocess import InputTransform
from vitcli.data.raw import Labels, stratified_split
from vitcli.data.registry import DATASETS
from vitcli.data.store import data_dir, newest_download
from vitcli.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vitcli.engine.device import Precision, choose_device, describe, seed_everything
from vitcli.engine.mixing import Mixing
from vitcli.engine.trainer import Trainer
from vitcli.figures.curves import draw_curves
from vitcli.models.registry import model_config
from vitcli.models.vit import VisionTransformer
from vitcli.workflows.loading import find_checkpoint

_PHOTO_MARGIN = 1.15
"""How much larger than the model's input photos are kept for random resized crops."""
_SIZE_FOR_PHOTOS = (64, 64)
"""Image size of models that take it from the data, where the data is photos."""
_EVAL_BATCH = 512
_KNOWN_STATISTICS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5,), (0.5,)),
    "none": ((0.0,), (1.0,)),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """A finished run."""

    run: str
    path: Path
    dataset: str
    model: str
    parameters: int
    device: str
    train_images: int
    val_images: int
    epochs: int
    best: EpochRecord
    seconds: float
    """Of training and validation, without imports and preparation of data."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Data:
    """Training and validation images, and how files become their like."""

    train: PreparedSplit
    members: Labels
    """Indices of the training images that are not held out."""
    val: PreparedSplit
    preprocessing: Preprocessing


def train(*layers: Settings, emit: Emit = ignore) -> TrainResult:
    """Train a model and keep it as a run.

    Args:
        layers: settings, the later the stronger: ``{"data": {"name": "digits"}, "optim": {"epochs": 3}}``. Below
            them lies the recipe that ``run.recipe`` names, else the data set's own; below that the defaults.
        emit: told about the progress.

    Raises:
        UsageError, DataError, ModelError, RunError, DeviceError: before anything is written.
        TrainingError, Interrupted: the run is marked so, and keeps its checkpoints.
    """
    config, dataset = _configure(layers, emit)
    device = choose_device(config.run.device)
    output_dir = Path(config.run.output_dir).expanduser()
    if config.run.name:
        check_free(output_dir / config.run.name, overwrite=config.run.overwrite)
    seed_everything(config.run.seed, deterministic=config.run.deterministic)

    facts = dataset.facts
    model_settings = model_config(
        config.model,
        image_size=facts.native_size or _SIZE_FOR_PHOTOS,
        in_channels=facts.channels,
        num_classes=len(facts.classes),
    )
    model = VisionTransformer(model_settings)
    if config.run.init_from:
        _start_from(config.run.init_from, output_dir, model, facts.classes, emit)
    if config.optim.freeze_backbone:
        model.requires_grad_(requires_grad=False)
        model.head.requires_grad_(requires_grad=True)
    data = _prepare_data(dataset, config, model_settings, emit)
    model.to(device)

    name = config.run.name or next_name(output_dir, f"{_slug(facts.name)}-{config.model.name}")
    run = Run.create(
        output_dir / name,
        seed=config.run.seed,
        versions={"torch": torch.__version__, "safetensors": safetensors.__version__, "pillow": PIL.__version__},
        summary={"dataset": facts.name, "model": config.model.name, "recipe": config.run.recipe},
        overwrite=config.run.overwrite,
    )
    run.save_config({**settings_of(config), "resolved_model": asdict(model_settings)})
    saver = _RunSaver(run, config, model_settings, facts.classes, data.preprocessing)
    emit(Note(text=f"run: {run.path} on {describe(device)}"))
    with stop_requests() as stop:
        to_input = InputTransform(data.preprocessing, device)
        trainer = Trainer(
            model,
            train=Batches(
                data.train.images,
                data.train.labels,
                members=torch.from_numpy(data.members),
                batch_size=config.optim.batch_size,
                transform=TrainTransform(config.augment, to_input),
                device=device,
                seed=config.run.seed,
            ),
            val=Batches(data.val.images, data.val.labels, batch_size=_EVAL_BATCH, transform=to_input, device=device),
            config=config.optim,
            mixing=Mixing(mixup=config.augment.mixup, cutmix=config.augment.cutmix, seed=config.run.seed),
            precision=Precision(device, amp=config.run.amp, dtype=config.run.amp_dtype),
            saver=saver,
            emit=emit,
            stop=stop,
            seed=config.run.seed,
            compile_model=config.run.compile,
        )
        records = _fit(trainer, run)
    draw_curves(records, run.figure("curves"), title=run.name)
    return TrainResult(
        run=run.name,
        path=run.path,
        dataset=facts.name,
        model=config.model.name,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        device=str(device),
        train_images=len(data.members),
        val_images=len(data.val.labels),
        epochs=len(records),
        best=trainer.best,
        seconds=trainer.seconds,
    )


def _fit(trainer: Trainer, run: Run) -> list[EpochRecord]:
    """Train, and mark the run with how it ended."""
    try:
        records = trainer.fit()
    except (Interrupted, KeyboardInterrupt) as error:
        run.finish("interrupted")
        if isinstance(error, Interrupted):
            error.hint = f"the weights so far: {run.checkpoint('last')}"
        raise
    except BaseException:
        run.finish("failed")
        raise
    run.finish("finished")
    return records


def _configure(layers: tuple[Settings, ...], emit: Emit) -> tuple[TrainConfig, Dataset]:
    """The whole configuration, and the data set that decides on the recipe where nobody else does."""
    asked = configure(*layers)
    recipe = load_recipe(asked.run.recipe) if asked.run.recipe else {}
    stated = configure(recipe, *layers)
    directory = data_dir(stated.data.dir)
    name = stated.data.name
    if not name:
        name = newest_download(directory) or "digits"
        why = "bundled" if name == "digits" else "downloaded last"
        emit(Note(text=f"no data set given: training on {name} ({why})"))
    dataset = open_dataset(name, directory=directory, test_fraction=stated.data.test_fraction, emit=emit)
    name = name if name in DATASETS else str(Path(name).expanduser().resolve())
    recipe_name = asked.run.recipe or dataset.facts.recipe
    if not asked.run.recipe:
        emit(Note(text=f"recipe: {recipe_name}, the default for {dataset.facts.name}"))
    chosen: Mapping[str, Mapping[str, Any]] = {
        "data": {"name": name, "dir": str(directory.resolve())},
        "run": {"recipe": recipe_name},
    }
    return configure(load_recipe(recipe_name), *layers, chosen), dataset


def _prepare_data(dataset: Dataset, config: TrainConfig, model: ModelConfig, emit: Emit) -> _Data:
    facts = dataset.facts
    if "val" in facts.counts:
        members = torch.arange(facts.counts["train"]).numpy()
        held_out = None
    else:
        members, held_out = stratified_split(
            dataset.labels("train"),
            fraction=config.data.val_fraction,
            seed=config.run.seed,
            classes=facts.classes,
        )
    geometry = facts.native_geometry or Geometry(
        size=model.image_size,
        channels=facts.channels,
        resize=config.data.resize,
        crop_fraction=config.data.crop_fraction,
    )
    train_geometry = facts.native_geometry or _training_geometry(geometry, facts.aspect, config.augment)
    workers = config.data.workers
    train = dataset.split("train", train_geometry, workers=workers, emit=emit)
    val = dataset.split("val" if held_out is None else "train", geometry, members=held_out, workers=workers, emit=emit)
    mean, std = _statistics(config.data.normalise, train.images[torch.from_numpy(members)], facts.channels)
    preprocessing = Preprocessing(geometry=geometry, image_size=model.image_size, mean=mean, std=std)
    return _Data(train=train, members=members, val=val, preprocessing=preprocessing)


def _training_geometry(geometry: Geometry, aspect: float, augment: AugmentConfig) -> Geometry:
    """Photos are kept larger, and whole, where random resized crops choose from them; else as in evaluation."""
    if augment.crop_scale == 1:
        return geometry
    height, width = (round(side * _PHOTO_MARGIN) for side in geometry.size)
    size: Size = (height, width)
    if geometry.resize == "crop":
        size = (height, round(width * aspect)) if aspect >= 1 else (round(height / aspect), width)
    return Geometry(size=size, channels=geometry.channels, resize=geometry.resize)


def _statistics(kind: str, images: Tensor, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if kind == "dataset":
        return channel_statistics(images)
    mean, std = _KNOWN_STATISTICS[kind]
    if kind == "imagenet" and channels == 1:
        return (sum(mean) / 3,), (sum(std) / 3,)
    return (mean * channels)[:channels], (std * channels)[:channels]


def _start_from(name: str, output_dir: Path, model: VisionTransformer, classes: tuple[str, ...], emit: Emit) -> None:
    """Copy the weights of a checkpoint; the head only where the classes are the same."""
    path, _ = find_checkpoint(name, output_dir)
    checkpoint = load_checkpoint(path)
    keeps_head = checkpoint.classes == classes
    weights = {key: value for key, value in checkpoint.weights.items() if keeps_head or not key.startswith("head.")}
    own = model.state_dict()
    wrong = [key for key in own if key not in weights and (keeps_head or not key.startswith("head."))]
    wrong += [key for key, value in weights.items() if key not in own or own[key].shape != value.shape]
    if wrong:
        raise ModelError(
            f"the weights in {path} do not fit {model.config.name}: {', '.join(wrong[:3])}",
            hint=f"--model {checkpoint.model.name}, as they were trained",
        )
    model.load_state_dict(weights, strict=False)
    emit(Note(text=f"weights from {path}" + ("" if keeps_head else "; new head, as the classes differ")))


def _slug(name: str) -> str:
    """A data set's name as part of a folder's name."""
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower()).strip("-") or "data"


class _RunSaver:
    """Keeps what the trainer hands over, in the run's directory."""

    def __init__(
        self,
        run: Run,
        config: TrainConfig,
        model: ModelConfig,
        classes: tuple[str, ...],
        preprocessing: Preprocessing,
    ) -> None:
        self.run = run
        self.config = config
        self.model = model
        self.classes = classes
        self.preprocessing = preprocessing

    def save_epoch(self, weights: dict[str, Tensor], records: list[EpochRecord]) -> None:
        """``last`` always, ``best`` when it is, one of its own every ``save_every`` epochs; then the metrics."""
        record = records[-1]
        checkpoint = self._checkpoint(weights, {"epoch": record.epoch, "val_accuracy": record.val_accuracy})
        every = self.config.run.save_every
        names: list[str | int] = ["last"]
        if record.is_best:
            names.append("best")
        if every and record.epoch % every == 0:
            names.append(record.epoch)
        for name in names:
            save_checkpoint(self.run.checkpoint(name), checkpoint)
        self.run.save_metrics([asdict(each) for each in records])

    def save_interrupted(self, weights: dict[str, Tensor], epoch: int, step: int) -> None:
        """``last``, from the middle of an epoch."""
        save_checkpoint(self.run.checkpoint("last"), self._checkpoint(weights, {"epoch": epoch, "step": step}))

    def _checkpoint(self, weights: dict[str, Tensor], where: dict[str, Any]) -> Checkpoint:
        provenance = {"run": self.run.name, "data": asdict(self.config.data), "seed": self.config.run.seed, **where}
        return Checkpoint(
            model=self.model,
            classes=self.classes,
            preprocessing=self.preprocessing,
            provenance=provenance,
            weights=weights,
        )
