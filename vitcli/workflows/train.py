"""Train a Vision Transformer: settings to a run on disk."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import PIL
import safetensors
import torch
from torch import Tensor, nn

from vitcli.core.config import TrainConfig
from vitcli.core.config_files import Settings, settings_of
from vitcli.core.errors import Interrupted
from vitcli.core.events import Emit, EpochRecord, Note, Warned, ignore
from vitcli.core.interrupts import stop_requests
from vitcli.core.model_config import ModelConfig
from vitcli.core.preprocessing import Preprocessing
from vitcli.core.runs import Run, free_cross_validation, next_name, slug
from vitcli.data.augment import TrainTransform
from vitcli.data.dataset import Facts
from vitcli.data.loader import Batches
from vitcli.data.preprocess import InputTransform
from vitcli.data.splits import plan_splits, stored_plan
from vitcli.engine.checkpoint import Checkpoint, save_checkpoint
from vitcli.engine.device import Precision, choose_device, describe, seed_everything
from vitcli.engine.mixing import Mixing
from vitcli.engine.trainer import TrainBatches, Trainer
from vitcli.figures.curves import draw_curves
from vitcli.models.finetune import HeadOnly, merged
from vitcli.models.registry import num_parameters
from vitcli.workflows.features import feature_batches, sees_images_once
from vitcli.workflows.preflight import quick_warnings
from vitcli.workflows.settings import settle
from vitcli.workflows.starting import starting_model
from vitcli.workflows.training_data import TrainingData, prepare_training_data

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
    classes: int
    train_images: int
    val_images: int
    test_images: int
    """Held out for `vit eval`; 0: there are none."""
    epochs: int
    best: EpochRecord
    seconds: float
    """Of training and validation, features of a frozen backbone included; without imports and preparation of data."""


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
    config, dataset = settle(layers, emit)
    device = choose_device(config.run.device)
    output_dir = Path(config.run.output_dir).expanduser()
    seed_everything(config.run.seed, deterministic=config.run.deterministic)

    facts = dataset.facts
    model, config, source = starting_model(config, facts, emit)
    plan = plan_splits(dataset, config.data, seed=config.run.seed)
    for warning in quick_warnings(dataset, plan, config):
        emit(Warned(text=warning))
    data = prepare_training_data(
        dataset,
        plan,
        config,
        model.config.image_size,
        source=source.preprocessing if source else None,
        emit=emit,
    )
    model.to(device)

    stem = f"{slug(facts.name)}-{config.model.name}"
    fold = config.data.fold or int(bool(config.data.folds))
    name = config.run.name or (free_cross_validation(output_dir, stem, fold) if fold > 1 else "")
    name = name or next_name(output_dir, stem)
    run = Run.create(
        output_dir / name / f"fold-{fold}" if fold else output_dir / name,
        seed=config.run.seed,
        versions={"torch": torch.__version__, "safetensors": safetensors.__version__, "pillow": PIL.__version__},
        summary={"dataset": facts.name, "model": config.model.name, "recipe": config.run.recipe},
        overwrite=config.run.overwrite,
    )
    run.save_config({**settings_of(config), "resolved_model": asdict(model.config)})
    left_out = dataset.raw.left_out if dataset.raw else {}
    run.save_split({**stored_plan(plan, dataset), "skipped": data.skipped, "left_out": left_out})
    saver = _RunSaver(run, config, model.config, facts, data.preprocessing)
    emit(Note(text=f"run: {run.path} on {describe(device)}"))
    precision = Precision(device, amp=config.run.amp, dtype=config.run.amp_dtype)
    with run.recorded(), stop_requests() as stop:
        started = time.perf_counter()
        trained: nn.Module = model
        train_batches: TrainBatches
        if sees_images_once(config):
            saver.backbone = model.state_dict()
            trained = HeadOnly(model)
            train_batches, val_batches = feature_batches(
                model,
                data,
                config,
                device=device,
                precision=precision,
                cache=run.cache("features"),
                emit=emit,
                stop=stop,
            )
        else:
            train_batches, val_batches = _image_batches(data, config, device)
        trainer = Trainer(
            trained,
            train=train_batches,
            val=val_batches,
            config=config.optim,
            mixing=Mixing(mixup=config.augment.mixup, cutmix=config.augment.cutmix, seed=config.run.seed),
            precision=precision,
            saver=saver,
            emit=emit,
            stop=stop,
            seed=config.run.seed,
            class_weights=data.class_weights,
            compile_model=config.run.compile,
        )
        try:
            trainer.fit()
            seconds = time.perf_counter() - started
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
        parameters=num_parameters(model.config),
        device=str(device),
        classes=len(facts.classes),
        train_images=len(data.members),
        val_images=len(data.val_members),
        test_images=data.test_images,
        epochs=len(trainer.records),
        best=trainer.best,
        seconds=seconds,
    )


def _image_batches(data: TrainingData, config: TrainConfig, device: torch.device) -> tuple[Batches, Batches]:
    """Shuffled, changed batches for training, and plain ones for validation."""
    to_input = InputTransform(data.preprocessing, device)
    train = Batches(
        data.train.images,
        data.train.labels,
        members=torch.from_numpy(data.members),
        batch_size=config.optim.batch_size,
        transform=TrainTransform(config.augment, to_input),
        device=device,
        seed=config.run.seed,
        balanced=config.data.balanced_sampling,
    )
    val = Batches(
        data.val.images,
        data.val.labels,
        members=torch.from_numpy(data.val_members),
        batch_size=_EVAL_BATCH,
        transform=to_input,
        device=device,
    )
    return train, val


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
        self.backbone: Mapping[str, Tensor] = {}
        """Weights that are not trained, and not handed over, but belong into every checkpoint."""

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
            weights=merged({**self.backbone, **weights}),
        )
