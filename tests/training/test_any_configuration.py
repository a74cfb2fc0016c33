"""Whatever a configuration says: it trains, with losses that are numbers, or is refused with a hint before it begins."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitcli.core.errors import VitError
from vitcli.core.events import Event, TrainingStarted
from vitcli.core.runs import Run
from vitcli.workflows.train import train

SHARES = st.sampled_from([0.0, 0.1, 0.9])
SWITCH = st.booleans()
OPTIM = {
    "epochs": st.integers(1, 3),
    "batch_size": st.sampled_from([1, 7, 9, 100]),
    "grad_accum_steps": st.integers(1, 8),
    "optimizer": st.sampled_from(["adamw", "adam", "sgd", "muon", "schedule-free"]),
    "lr": st.sampled_from([0.0, 1e-6, 0.01]),
    "weight_decay": SHARES,
    "betas": st.sampled_from([(0.0, 0.0), (0.9, 0.95)]),
    "momentum": SHARES,
    "schedule": st.sampled_from(["constant", "step", "cosine", "one-cycle"]),
    "warmup_epochs": st.sampled_from([0.0, 0.3, 1.0, 50.0]),
    "min_lr": SHARES,
    "step_size": st.integers(1, 3),
    "gamma": st.sampled_from([1e-6, 0.5, 1.0]),
    "label_smoothing": SHARES,
    "class_weights": st.sampled_from(["", "balanced", "effective"]),
    "clip_grad": st.sampled_from([0.0, 1e-3, 1.0]),
    "layer_decay": st.sampled_from([0.1, 1.0, 1.5]),
    "head_lr": st.sampled_from([0.0, 0.01]),
    "train_only": st.sampled_from(["", "head", "norm", "bias", "attention", "last:1", "last:2"]),
    "lora": st.sampled_from([0, 0, 1, 40]),
    "ema": SWITCH,
    "ema_decay": SHARES,
    "swa_epochs": st.sampled_from([0, 2]),
    "progressive": st.sampled_from([0.0, 0.01, 0.9]),
    "patience": st.integers(0, 1),
}
AUGMENT = {
    "crop_padding": st.sampled_from([0, 1, 20]),
    "crop_scale": st.sampled_from([0.01, 0.5, 1.0]),
    "rotate": st.sampled_from([0.0, 180.0]),
    "zoom": st.sampled_from([0.0, 0.5, 3.0]),
    "shear": st.sampled_from([0.0, 80.0]),
    "flip": SHARES,
    "policy": st.sampled_from(["none", "trivial", "rand"]),
    "policy_magnitude": st.sampled_from([0, 30]),
    "brightness": SHARES,
    "contrast": SHARES,
    "saturation": SHARES,
    "hue": st.sampled_from([0.0, 0.5]),
    "grey": SHARES,
    "erase": SHARES,
    "mixup": st.sampled_from([0.0, 0.01, 1.0]),
    "cutmix": st.sampled_from([0.0, 0.01, 1.0]),
    "feature_views": st.sampled_from([0, 0, 2]),
}
MODEL = {
    "image_size": st.sampled_from([(8, 8), (16, 8), (4, 12)]),
    "patch_size": st.sampled_from([(4, 4), (2, 4), (8, 8), (3, 3)]),
    "width": st.sampled_from([16, 12, 18]),
    "depth": st.integers(1, 2),
    "num_heads": st.sampled_from([1, 2, 4]),
    "mlp_width": st.sampled_from([1, 32]),
    "mlp_conv": st.sampled_from([0, 0, 1, 3]),
    "patch_embedding": st.sampled_from(["conv", "linear"]),
    "patch_bias": SWITCH,
    "class_token": SWITCH,
    "distillation": st.sampled_from(["none", "token", "head"]),
    "num_registers": st.sampled_from([0, 2]),
    "positions": st.sampled_from(["learned", "sincos"]),
    "prefix_positions": SWITCH,
    "input_norm": SWITCH,
    "pooling": st.sampled_from(["class", "tokens", "patches"]),
    "block_norm": st.sampled_from(["pre", "post"]),
    "final_norm": st.sampled_from(["tokens", "pooled", "none"]),
    "activation": st.sampled_from(["gelu", "gelu-tanh", "gelu-quick", "relu"]),
    "qkv_bias": SWITCH,
    "layer_scale": st.sampled_from([0.0, 1e-5]),
    "drop_path": SHARES,
    "dropout": SHARES,
    "attention_dropout": SHARES,
    "head_width": st.sampled_from([0, 5]),
    "head_dropout": SHARES,
}
DATA = {
    "balanced_sampling": SWITCH,
    "normalise": st.sampled_from(["auto", "imagenet", "half", "none"]),
    "val_fraction": st.sampled_from([0.1, 0.5]),
    "cache": st.sampled_from(["auto", "ram", "off"]),
}
RUN = {"amp": st.sampled_from(["on", "off"]), "save_steps": st.integers(0, 2), "save_every": st.integers(0, 2)}
TEACHER = {
    "name": st.sampled_from(["", "teacher"]),
    "kind": st.sampled_from(["auto", "soft", "hard"]),
    "alpha": st.sampled_from([0.01, 1.0]),
    "temperature": st.sampled_from([0.1, 20.0]),
}


def some_of(choices: dict[str, Any], most: int) -> Any:
    """A few settings of a section: with all of them at once, most configurations would be refused."""
    names = st.lists(st.sampled_from(sorted(choices)), max_size=most, unique=True)
    return names.flatmap(lambda chosen: st.fixed_dictionaries({name: choices[name] for name in chosen}))


CONFIGURATIONS = st.fixed_dictionaries(
    {
        "optim": some_of(OPTIM, 6),
        "augment": some_of(AUGMENT, 4),
        "model": some_of(MODEL, 5),
        "data": some_of(DATA, 2),
        "run": st.fixed_dictionaries(RUN),
        "teacher": some_of(TEACHER, 3),
    }
)
USUAL: dict[str, dict[str, Any]] = {
    "optim": {"epochs": 1, "batch_size": 9},
    "model": {"name": "vit-nano-patch4", "width": 16, "depth": 1, "num_heads": 2, "mlp_width": 32},
    "run": {"device": "cpu", "name": "run", "overwrite": True},
}


@pytest.fixture(scope="module")
def folder(image_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_folder(tmp_path_factory.mktemp("folders") / "shapes", {"left": 12, "right": 10}, mode="RGB")


@pytest.fixture(scope="module")
def teacher(folder: Path, tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    path = tmp_path_factory.mktemp("teachers") / "teacher"
    where = {"output_dir": str(path.parent), "name": path.name}
    train(USUAL, {"data": {"name": str(folder), "dir": str(data_dir)}, "run": where})
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chosen=CONFIGURATIONS)
def test_a_configuration_trains_or_is_refused_with_a_hint(folder: Path, teacher: Path, chosen: dict[str, Any]) -> None:
    events: list[Event] = []
    taught = {"teacher": {"name": str(teacher) if chosen["teacher"].get("name") else ""}}
    shutil.rmtree("experiments", ignore_errors=True)
    refused: VitError | None = None
    try:
        train(USUAL, {"data": {"name": str(folder)}}, chosen, taught, emit=events.append)
    except VitError as error:
        refused = error
    if refused:
        assert refused.hint, refused.message
        assert not any(isinstance(event, TrainingStarted) for event in events), refused.message
        assert not Path("experiments/run").exists()
        return
    records = Run(Path("experiments/run")).metrics["epochs"]
    assert records
    assert all(math.isfinite(record[name]) for record in records for name in ("train_loss", "val_loss"))
