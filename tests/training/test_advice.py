"""What is told of settings and images before training begins."""

import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vitcli
from vitcli.core.config import TrainConfig
from vitcli.core.events import Warned
from vitcli.core.model_config import ModelConfig
from vitcli.core.optim_config import OptimConfig
from vitcli.core.preprocessing import Geometry, Preprocessing
from vitcli.training.advice import _from_weights, advice_on_settings, why_losses_differ

MODEL = ModelConfig(image_size=(32, 32), patch_size=(4, 4), width=16, depth=1, num_heads=2)
SOURCE = Preprocessing(
    geometry=Geometry(size=(32, 32), channels=3), image_size=(32, 32), mean=(0.5,) * 3, std=(0.2,) * 3
)


def told(
    optim: OptimConfig | None = None, *, model: ModelConfig = MODEL, source: Preprocessing | None = None
) -> list[str]:
    return list(advice_on_settings(TrainConfig(optim=optim or OptimConfig()), model, source=source))


@pytest.mark.parametrize(
    ("optimizer", "lr", "slower"), [("adamw", 0.002, "0.0002"), ("muon", 0.01, "0.001"), ("sgd", 0.1, "0.005")]
)
def test_a_rate_that_undoes_what_weights_know(optimizer, lr, slower) -> None:
    optim = OptimConfig(optimizer=optimizer, lr=lr)
    (text,) = told(optim, source=SOURCE)
    assert f"learning rate {lr:g} ({optimizer})" in text
    assert f"--lr {slower}," in text
    assert not told(optim)  # from scratch it is usual
    assert not told(replace(optim, lr=float(slower)), source=SOURCE)
    assert not told(replace(optim, lora=8), source=SOURCE)  # new matrices learn from scratch, and so do heads
    assert not told(replace(optim, train_only="head"), source=SOURCE)


@pytest.mark.parametrize(
    ("optim", "model", "said"),
    [
        ({}, {"drop_path": 0.1}, "with dropout;"),
        ({}, {"embedding_dropout": 0.1}, "with dropout;"),
        ({"train_only": "head"}, {"drop_path": 0.1}, "change; validation"),
        ({"train_only": "head"}, {"head_dropout": 0.1}, "with dropout;"),
        ({"progressive": 0.5}, {}, "with smaller images;"),
    ],
)
def test_why_the_losses_of_training_and_validation_differ(optim, model, said) -> None:
    assert said in why_losses_differ(TrainConfig(optim=OptimConfig(**optim)), replace(MODEL, **model))


def test_patches_as_large_as_objects() -> None:
    (text,) = told(model=replace(MODEL, patch_size=(16, 16)))
    assert "2 x 2 patches of 16 x 16 pixels" in text
    assert "--set model.patch_size=8" in text
    assert not told(model=replace(MODEL, patch_size=(8, 8)))
    (text,) = told(model=replace(MODEL, image_size=(14, 14), patch_size=(7, 7)))
    assert "try a larger --image-size" in text  # 14 pixels are not a multiple of 3


def test_patches_so_many_that_attention_takes_all_the_time() -> None:
    (text,) = told(model=replace(MODEL, image_size=(1000, 1000), patch_size=(2, 2)))
    assert "500 x 500 patches" in text
    assert "try --set model.patch_size=20, or a smaller --image-size" in text
    assert not told(model=replace(MODEL, image_size=(1024, 1024), patch_size=(16, 16)))


def warnings_of(folder: Path, runs: Path, data_dir: Path, **settings) -> list[str]:
    events: list[object] = []
    tiny = {"depth": 1, "width": 16, "num_heads": 2, "mlp_width": 32, "patch_size": 4}
    layers = (
        {"data": {"name": str(folder), "dir": str(data_dir), **settings.pop("data", {})}},
        {"model": {**tiny, "image_size": 16}, "optim": {"epochs": 1, "lr": 0.0001}},
        {"run": {"output_dir": str(runs), "device": "cpu", **settings}},
    )
    vitcli.train(*layers, emit=events.append)
    return [event.text for event in events if isinstance(event, Warned)]


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    def draw(name: str, *, darker: int) -> Path:
        random = np.random.default_rng(0)
        for split, count, less in (("train", 30, 0), ("val", 24, darker)):
            for at in range(count):
                path = tmp_path / name / split / "ab"[at % 2] / f"{at}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(random.integers(100 - less, 200 - less, (16, 16, 3), dtype=np.uint8)).save(path)
        return tmp_path / name

    return draw


def test_validation_images_of_other_colours(folder: Callable[..., Path], tmp_path: Path, data_dir: Path) -> None:
    assert not [
        each for each in warnings_of(folder("alike", darker=0), tmp_path / "runs", data_dir) if "colours" in each
    ]
    found = [
        each for each in warnings_of(folder("darker", darker=60), tmp_path / "runs", data_dir) if "colours" in each
    ]
    (text,) = found
    assert "mean 0.35" in text
    assert "not 0.58" in text
    assert f"`vit preview {tmp_path / 'darker'}` shows them" in text


def test_images_normalised_otherwise_than_the_weights_are_used_to(
    folder: Callable[..., Path], tmp_path: Path, data_dir: Path
) -> None:
    photos, runs = folder("photos", darker=0), tmp_path / "runs"
    warnings_of(photos, runs, data_dir, name="first")
    again = warnings_of(photos, runs, data_dir, init_from=str(runs / "first"))
    assert not [each for each in again if "normalised" in each]
    other = warnings_of(photos, runs, data_dir, init_from=str(runs / "first"), data={"normalise": "imagenet"})
    (text,) = [each for each in other if "normalised" in each]
    assert "0.485, 0.456, 0.406" in text
    assert "--set data.normalise=auto" in text


def test_few_photos_are_advised_to_start_from_weights(
    image_folder: Callable[..., Path], folder: Callable[..., Path], tmp_path: Path, data_dir: Path
) -> None:
    def few(photos: Path, **run) -> list[str]:
        return [
            each
            for each in warnings_of(photos, tmp_path / "runs", data_dir, **run)
            if "fewer than 1,000 photos" in each
        ]

    photos = image_folder(tmp_path / "pets", {"cat": 10, "dog": 10}, size=(80, 60))
    (text,) = few(photos, name="first")
    assert text.endswith(': init_from="deit-tiny", freeze_backbone=True')
    assert not few(photos, init_from=str(tmp_path / "runs" / "first"))
    assert not few(folder("icons", darker=0))  # 16 x 16 pixels are no photos


def test_few_validation_images_are_warned_of_if_more_could_be_held_out(
    image_folder: Callable[..., Path], tmp_path: Path, data_dir: Path
) -> None:
    photos = image_folder(tmp_path / "pets", {"cat": 30, "dog": 30})
    for fraction, said in ((0.05, True), (0.3, False)):
        warnings = warnings_of(photos, tmp_path / "runs", data_dir, data={"val_fraction": fraction})
        found = [each for each in warnings if "the validation accuracy says little with only" in each]
        assert len(found) == said
        assert all("--val-fraction 0.2 holds out more" in each for each in found)


@pytest.mark.parametrize(
    ("typed", "better"),
    [
        (
            "pets --image-column file --data-dir d --epochs 3 --dry-run",
            "pets --image-column file --data-dir d --epochs 3",
        ),
        (
            "pets --model vit-tiny-patch16 --image-size 48 -r photos --name=first --overwrite --seeds 2",
            "pets --seeds 2",
        ),
        ("'my pets' --set model.depth=2 --set=optim.lr=0.1", "'my pets' --set=optim.lr=0.1"),
    ],
)
def test_the_command_that_starts_from_weights_has_the_options_that_were_typed(
    typed: str, better: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["vit", "train", *shlex.split(typed)])
    assert _from_weights() == f"`vit train {better} --init-from deit-tiny --freeze-backbone`"


def test_resuming_is_not_advised_with_options_that_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (["--resume", "kf"], ["--resume=kf", "--epochs", "9"]):
        monkeypatch.setattr(sys, "argv", ["vit", "train", *words])
        assert _from_weights() == "`vit train DATASET --init-from deit-tiny --freeze-backbone`"
