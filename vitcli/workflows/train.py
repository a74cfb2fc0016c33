"""Train a Vision Transformer: settings to a run on disk."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import PIL
import safetensors
import torch
from torch import Tensor

from vitcli.core.config import ModelConfig, TrainConfig
from vitcli.core.config_files import Settings, configure, load_recipe, settings_of
from vitcli.core.errors import Interrupted, ModelError
from vitcli.core.events import Emit, EpochRecord, Note, Warned, ignore
from vitcli.core.interrupts import stop_requests
from vitcli.core.preprocessing import Preprocessing
from vitcli.core.runs import Run, check_free, next_name
from vitcli.data.augment import TrainTransform
from vitcli.data.dataset import Dataset, Facts, canonical_name, open_dataset
from vitcli.data.loader import Batches
from vitcli.data.preprocess import InputTransform
from vitcli.data.store import data_dir, newest_download
from vitcli.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vitcli.engine.device import Precision, choose_device, describe, seed_everything
from vitcli.engine.mixing import Mixing
from vitcli.engine.trainer import Trainer
from vitcli.figures.curves import draw_curves
from vitcli.models.registry import MODELS, model_config
from vitcli.models.vit import VisionTransformer
from vitcli.workflows.loading import find_checkpoint
from vitcli.workflows.training_data import prepare_training_data

_SIZE_FOR_PHOTOS = (64, 64)
"""Image size of models that take it from the data, where the data is photos."""
_EVAL_BATCH = 512


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
        _start_from(config, output_dir, model, facts, emit)
    if config.optim.freeze_backbone:
        model.requires_grad_(requires_grad=False)
        model.head.requires_grad_(requires_grad=True)
    data = prepare_training_data(dataset, config, model_settings.image_size, emit)
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
    saver = _RunSaver(run, config, model_settings, facts, data.preprocessing)
    emit(Note(text=f"run: {run.path} on {describe(device)}"))
    with run.recorded(), stop_requests() as stop:
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
        try:
            trainer.fit()
        except Interrupted as error:
            error.hint = f"its weights: {run.checkpoint('last')}; --init-from {run.name} starts from them"
            raise
        finally:
            if trainer.records:
                draw_curves(trainer.records, run.figure("curves"), title=run.name)
    return TrainResult(
        run=run.name,
        path=run.path,
        dataset=facts.name,
        model=config.model.name,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        device=str(device),
        train_images=len(data.members),
        val_images=len(data.val.labels),
        epochs=len(trainer.records),
        best=trainer.best,
        seconds=trainer.seconds,
    )


def _configure(layers: tuple[Settings, ...], emit: Emit) -> tuple[TrainConfig, Dataset]:
    """The whole configuration, and the data set that decides on the recipe where nobody else does."""
    asked = configure(*layers)
    if asked.optim.freeze_backbone:  # nothing is left for Muon, whatever the recipe says
        layers = ({"optim": {"optimizer": "adamw"}}, *layers)
    recipe = load_recipe(asked.run.recipe) if asked.run.recipe else {}
    stated = configure(recipe, *layers)
    _check_early(stated)
    directory = data_dir(stated.data.dir)
    name = stated.data.name
    if not name:
        name = newest_download(directory) or "digits"
        why = "bundled" if name == "digits" else "downloaded last"
        emit(Note(text=f"no data set given: training on {name} ({why})"))
    dataset = open_dataset(name, directory=directory, test_fraction=stated.data.test_fraction, emit=emit)
    recipe_name = asked.run.recipe or dataset.recipe
    if not asked.run.recipe:
        emit(Note(text=f"recipe: {recipe_name}, the default for {dataset.facts.name}"))
    chosen: Mapping[str, Mapping[str, Any]] = {
        "data": {"name": canonical_name(name), "dir": str(directory.resolve())},
        "run": {"recipe": recipe_name},
    }
    return configure(load_recipe(recipe_name), *layers, chosen), dataset


def _check_early(stated: TrainConfig) -> None:
    """What is wrong in any case is said before a data set is fetched or prepared."""
    choose_device(stated.run.device)
    MODELS[stated.model.name]
    if stated.run.name:
        check_free(Path(stated.run.output_dir).expanduser() / stated.run.name, overwrite=stated.run.overwrite)


def _start_from(config: TrainConfig, output_dir: Path, model: VisionTransformer, facts: Facts, emit: Emit) -> None:
    """Copy the weights of a checkpoint; the head only where the classes are the same."""
    path, _ = find_checkpoint(config.run.init_from, output_dir)
    checkpoint = load_checkpoint(path)
    keeps_head = checkpoint.classes == facts.classes
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
    before = checkpoint.provenance
    same_split = (before["seed"], before["data"]["val_fraction"]) == (config.run.seed, config.data.val_fraction)
    if before["fingerprint"] == facts.fingerprint and not same_split and "val" not in facts.counts:
        emit(Warned(text="these weights have seen some of the validation images, so validation will flatter them"))


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
        facts: Facts,
        preprocessing: Preprocessing,
    ) -> None:
        self.run = run
        self.config = config
        self.model = model
        self.classes = facts.classes
        self.fingerprint = facts.fingerprint
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
        """``last``, from the middle of an epoch; the best epoch so far stays what it is."""
        save_checkpoint(self.run.checkpoint("last"), self._checkpoint(weights, {"epoch": epoch, "step": step}))

    def _checkpoint(self, weights: dict[str, Tensor], where: dict[str, Any]) -> Checkpoint:
        provenance = {
            "run": self.run.name,
            "data": asdict(self.config.data),
            "fingerprint": self.fingerprint,
            "seed": self.config.run.seed,
            "amp": self.config.run.amp,
            "amp_dtype": self.config.run.amp_dtype,
            **where,
        }
        return Checkpoint(
            model=self.model,
            classes=self.classes,
            preprocessing=self.preprocessing,
            provenance=provenance,
            weights=weights,
        )
