"""A pretraining without labels, as it lies on disk; nothing here needs torch.

pretraining.json              what it was asked for, its epochs, and how it ended
weights.safetensors           the model after the last epoch, without a head: `vit train --init-from` starts from it
state/state.safetensors       the training state; state-before.safetensors: the one before it, until the end
figures/curves.png            the loss after each epoch
figures/reconstructions.png   images, what the model sees of them, and what it predicts
"""

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitcli.core.config import RunConfig, TrainConfig
from vitcli.core.config_files import Settings, configure
from vitcli.core.errors import RunError, UsageError, counted
from vitcli.core.events import PretrainingEpoch
from vitcli.core.files import expanded
from vitcli.core.launch import launched_as
from vitcli.core.model_config import ModelConfig
from vitcli.core.preprocessing import Preprocessing
from vitcli.core.run_files import Status
from vitcli.core.stored import checked
from vitcli.training.kept_work import KeptWork

OBJECTIVE = "masked patches"
"""The task of pretraining, as the file of weights has it."""
MASK_RATIO = 0.5
"""Share of the patches that is hidden, unless another one is given."""
NOT_USED: Settings = {
    "optim": {
        "label_smoothing": 0.0,
        "class_weights": "",
        "ema": False,
        "swa_epochs": 0,
        "progressive": 0.0,
        "patience": 0,
        "train_only": "",
        "lora": 0,
        "head_lr": 0.0,
        "keep": "last",
    },
    "data": {"balanced_sampling": False},
    "augment": {"mixup": 0.0, "cutmix": 0.0, "feature_views": 0},
    "run": {
        "compile": "off",
        "shard": False,
        "overwrite": False,
        "save_every": 0,
        "tensorboard": False,
        "wandb": False,
    },
}
"""Settings of training that mean nothing without labels, or are not there in pretraining, with the values of none."""
_FREE = {"run.output_dir", "run.device", "run.offline", "data.name", "data.dir", "optim.epochs"}
"""Settings that may change when a pretraining continues."""


@dataclass(kw_only=True, slots=True)
class PretrainingFile:
    """The entries of ``pretraining.json``."""

    schema: int = 1
    status: Status = "running"
    started: str
    ended: str | None = None
    command: list[str]
    versions: dict[str, str]
    hardware: dict[str, Any]
    dataset: str
    """Name of the data set."""
    fingerprint: str
    """The fingerprint of the data."""
    images: dict[str, int]
    """Number of images that are trained on, and of those of which only the loss is computed."""
    settings: dict[str, dict[str, Any]]
    """The settings, as for ``vit train``."""
    mask_ratio: float
    """Share of the patches that is hidden."""
    model: dict[str, Any]
    """The architecture, with a head that is not kept."""
    preprocessing: dict[str, Any]
    computed: dict[str, Any]
    """Precision and number of micro-batches."""
    device: str
    seconds: float = 0.0
    """Time that it has taken so far."""
    epochs: list[PretrainingEpoch] = field(default_factory=list)


class Pretraining(KeptWork[PretrainingFile]):
    """A pretraining without labels, in its folder."""

    FILE, ENTRIES, KIND = "pretraining.json", PretrainingFile, "pretraining"
    MAKER, IN_USE = "vit pretrain", "is pretraining in"

    @property
    def weights(self) -> Path:
        """The file of the weights."""
        return self.path / "weights.safetensors"

    def figure(self, name: str) -> Path:
        """The file of a figure."""
        return self.path / "figures" / f"{name}.png"

    @property
    def config(self) -> TrainConfig:
        """The settings."""
        try:
            return configure(self.stored.settings)
        except UsageError as error:
            raise RunError(f"{self.path / self.FILE} is broken: {error.message}") from None

    @property
    def architecture(self) -> ModelConfig:
        """The architecture, with a head that is not kept."""
        config: ModelConfig = self._checked(self.stored.model, ModelConfig)
        return config

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing of the images."""
        preprocessing: Preprocessing = self._checked(self.stored.preprocessing, Preprocessing)
        return preprocessing

    @property
    def states(self) -> tuple[Path, Path]:
        """The files of the newest training state and of the one before it."""
        folder = self.path / "state"
        return folder / "state.safetensors", folder / "state-before.safetensors"

    @property
    def resume_command(self) -> str:
        """The command that continues it; the name is enough if it is in the usual folder."""
        is_usual = self.path.parent == Path(RunConfig().output_dir)
        return f"vit pretrain --resume {shlex.quote(self.path.name if is_usual else str(self.path))}"

    @property
    def words(self) -> str:
        """Its name, and how far it has come."""
        epochs = self.stored.epochs
        if not epochs:
            return f"{self.name}: {self.stored.status}, no epoch yet"
        wanted = self.config.optim.epochs
        how_far = (
            counted(len(epochs), "epoch")
            if len(epochs) == wanted
            else f"{self.stored.status}, {len(epochs)} of {wanted} epochs"
        )
        return f"{self.name}: {how_far} of {self.stored.dataset}, held-out loss {epochs[-1].val_loss:.3f}"

    def remember(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Take over the epochs of a training state."""
        self.stored.epochs = [PretrainingEpoch(**record) for record in records]

    def _checked(self, fields: Any, kind: type) -> Any:
        try:
            return checked(fields, kind)
        except ValueError as error:
            raise RunError(f"{self.path / self.FILE} is broken: {error}") from None


def pretrainings_in(output_dir: Path) -> list[str]:
    """Describe the pretrainings in a folder, a line each, the newest first; those that cannot be read are left out."""
    found = list[Pretraining]()
    for file in output_dir.glob(f"*/{Pretraining.FILE}"):
        with suppress(RunError):
            found.append(Pretraining.open(file.parent))
    return [work.words for work in sorted(found, key=lambda work: work.stored.started, reverse=True)]


def check_new(config: RunConfig) -> None:
    """Raise RunError if the name of a new pretraining is that of an earlier one."""
    path = expanded(config.output_dir) / config.name
    if config.name and (path / Pretraining.FILE).is_file():
        work = Pretraining.open(path)
        go_on = "" if work.stored.status == "finished" else f"; `{work.resume_command}` continues it"
        raise RunError(
            f"pretraining {config.name!r} exists already in {path.parent}", hint=f"--name NAME gives another{go_on}"
        )


def check_settings(layers: Sequence[Settings], mask_ratio: float) -> None:
    """Raise UsageError if a setting is given that pretraining does not use, or a ratio that hides nothing or all."""
    if not 0 < mask_ratio < 1:
        raise UsageError(f"--mask-ratio {mask_ratio:g} is not between 0 and 1", hint="0.5 hides half of the patches")
    asked = configure(*layers)
    check_new(asked.run)
    given = {(section, key) for layer in layers for section, table in layer.items() for key in table}
    for section, table in NOT_USED.items():
        for key, none in table.items():
            if (section, key) in given and (value := getattr(getattr(asked, section), key)) != none:
                what = f"{section}.{key} = {value!r} has no meaning without labels, or is not there in pretraining"
                raise UsageError(what, hint="leave it out")
    if launched_as().size > 1:
        raise UsageError("pretraining runs in one process", hint="start it without torchrun")
    if asked.teacher.name or asked.data.folds or asked.run.seeds or asked.run.devices > 1:
        raise UsageError("pretraining has no teacher, folds, --seeds or --devices", hint="leave them out")


def check_resumed(layers: Sequence[Settings], mask_ratio: float | None) -> None:
    """Raise UsageError if a setting is given that may not change when a pretraining continues."""
    named = {f"{section}.{key}" for layer in layers for section, table in layer.items() for key in table}
    named = {name for name in named if not name.startswith("about.")} - _FREE
    if given := [*sorted(named), *["--mask-ratio"] * (mask_ratio is not None)]:
        raise UsageError(
            f"--resume continues with the settings that it began with, but others are given: {', '.join(given)}",
            hint="leave them out",
        )
