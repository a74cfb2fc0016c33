"""Runs that are trained again from an earlier one, and what does not change a bit of any run."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.builders.runs import RUN, TINY, results, stopped_run
from vitcli.core.runs import Run
from vitcli.workflows.train import train

RunCli = Callable[..., Any]
DRAWS: dict[str, Any] = {
    "augment": {"crop_padding": 1, "mixup": 0.5},
    "model": {"drop_path": 0.2},
    "optim": {"epochs": 2, "ema": True, "ema_decay": 0.8},
}


def computed(run: Path) -> dict[str, Any]:
    """What a run came to, to the bit: weights and metrics, without names and settings."""
    found = dict(results(run))
    tensors = {name: value[0] for name, value in found.items() if name.endswith(".safetensors")}
    return tensors | {name: found[name] for name in ("metrics.json", "metrics.csv")}


def settings_of(run: Path) -> dict[str, Any]:
    return Run(run).config


def test_the_same_again_has_the_same_bits_in_a_new_run(run_cli: RunCli, shapes: Path) -> None:
    train({"data": {"name": str(shapes)}}, TINY, DRAWS, {"run": {"name": ""}})
    first = Path("experiments/shapes-vit-nano-patch4-001")
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    outcome = run_cli("train", os.path.relpath(shapes), "--from-run", first.name, "--json")
    assert outcome.code == 0, outcome.err
    again = Path(json.loads(outcome.out)["path"])
    assert again.name == "shapes-vit-nano-patch4-002"
    assert f"settings: those of run {first.name}" in outcome.err
    assert "(was" not in outcome.err
    assert "the last digits may differ" not in outcome.err
    assert "is not the data that run" not in outcome.err
    assert computed(again) == computed(first)
    assert settings_of(again) == settings_of(first)
    assert {path: path.read_bytes() for path in before} == before


def test_options_change_single_settings_each_in_a_line(run_cli: RunCli, shapes: Path) -> None:
    train({"data": {"name": str(shapes)}}, TINY, DRAWS)
    outcome = run_cli(
        "train", "--from-run", RUN, "--seed", "7", "--mixup", "0", "--name", "other", "--set", "model.depth=2"
    )
    assert outcome.code == 0, outcome.err
    told = [line for line in outcome.err.splitlines() if "(was" in line]
    assert told == ["augment.mixup = 0.0 (was 0.5)", "model.depth = 2 (was 1)", "run.seed = 7 (was 42)"]
    before, after = settings_of(RUN), settings_of(RUN.with_name("other"))
    assert (after["run"]["seed"], after["augment"]["mixup"], after["resolved_model"]["depth"]) == (7, 0, 2)
    assert {**after["optim"], "lr": before["optim"]["lr"]} == before["optim"]
    assert after["resolved_model"] == {**before["resolved_model"], "depth": 2}


def test_another_model_leaves_the_changes_to_the_first_one(run_cli: RunCli, shapes: Path) -> None:
    train({"data": {"name": str(shapes)}}, TINY, {"optim": {"epochs": 1}})
    outcome = run_cli("train", "--from-run", RUN, "--model", "vit-nano-patch2", "--opt", "adamw")
    assert outcome.code == 0, outcome.err
    after = settings_of(Path("experiments/shapes-vit-nano-patch2-001"))
    assert after["resolved_model"]["patch_size"] == [2, 2]
    assert after["resolved_model"]["depth"] > 1
    assert "optim.optimizer = 'adamw' (was 'muon')" in outcome.err


def test_other_patches_are_in_the_name(run_cli: RunCli, shapes: Path) -> None:
    train({"data": {"name": str(shapes)}}, TINY, {"optim": {"epochs": 1}})
    outcome = run_cli("train", "--from-run", RUN, "--set", "model.patch_size=4", "--name", "patched")
    assert outcome.code == 0, outcome.err
    assert Run(Path("experiments/patched")).info["model"] == "vit-nano-patch4"


@pytest.mark.parametrize(
    "options",
    [{"optim": {"optimizer": "adamw"}}, {"optim": {"train_only": "head"}, "augment": {"feature_views": 1}}],
    ids=["all", "head"],
)
def test_weights_to_start_from_are_taken_again_wherever_the_new_run_goes(
    run_cli: RunCli, shapes: Path, options: dict[str, Any]
) -> None:
    train({"data": {"name": str(shapes)}}, TINY, {"run": {"name": "base"}})
    chosen = {"data": {"name": str(shapes)}, "run": {"init_from": "base", "name": "tuned", "device": "cpu"}}
    train(chosen, options | {"optim": {"epochs": 2, **options["optim"]}})
    outcome = run_cli("train", "--from-run", "experiments/tuned", "--output-dir", "elsewhere", "--name", "again")
    assert outcome.code == 0, outcome.err
    assert f"weights from {Path('experiments/base').resolve()}" in outcome.err
    assert computed(Path("elsewhere/again")) == computed(Path("experiments/tuned"))
    outcome = run_cli("train", "--from-run", "experiments/tuned", "--name", "deeper", "--set", "model.drop_path=0.1")
    assert outcome.code == 0, outcome.err
    assert settings_of(Path("experiments/deeper"))["resolved_model"]["drop_path"] == 0.1


def test_a_cross_validation_is_trained_again_as_a_whole_or_in_part(
    run_cli: RunCli, shapes: Path, tiny: tuple[str, ...]
) -> None:
    assert run_cli("train", shapes, *tiny, "--folds", "2", "--device", "cpu", "--name", "run").code == 0
    outcome = run_cli("train", "--from-run", "run", "--name", "again", "--json")
    assert outcome.code == 0, outcome.err
    assert [fold["run"] for fold in json.loads(outcome.out)["folds"]] == ["again/fold-1", "again/fold-2"]
    for fold in ("fold-1", "fold-2"):
        assert computed(RUN.with_name("again") / fold) == computed(RUN / fold)
    kept, found = (json.loads((RUN.with_name(name) / "folds.json").read_text()) for name in ("run", "again"))
    assert found["val_accuracy"] == kept["val_accuracy"]
    for name, words in {"second": ("run/fold-2",), "asked": ("run", "--folds", "2", "--fold", "2")}.items():
        outcome = run_cli("train", "--from-run", *words, "--name", name)
        assert outcome.code == 0, outcome.err
        folder = RUN.with_name(name)
        assert [path.name for path in folder.iterdir()] == ["fold-2"]
        assert computed(folder / "fold-2") == computed(RUN / "fold-2")


def test_data_and_versions_that_are_others_are_warned_of(
    image_folder: Callable[..., Path], run_cli: RunCli, tmp_path: Path
) -> None:
    folder = image_folder(tmp_path / "shapes", {"left": 10, "right": 10})
    train({"data": {"name": str(folder)}}, TINY, {"optim": {"epochs": 1}})
    run = Run(RUN)
    run.note(versions={**run.info["versions"], "torch": "1.0", "vitcli": "0.0.1"})
    Image.new("L", (8, 8)).save(folder / "left" / "new.png")
    outcome = run_cli("train", "--from-run", "run", "--name", "again")
    assert outcome.code == 0, outcome.err
    assert "is not the data that run run was trained on" in outcome.err
    assert "and was 1.0: the last digits may differ" in outcome.err
    assert "and was 0.0.1: the last digits may differ" in outcome.err
    other = image_folder(tmp_path / "others", {"left": 10, "right": 10, "middle": 10})
    outcome = run_cli("train", other, "--from-run", "run", "--name", "others")
    assert outcome.code == 0, outcome.err
    assert f"data.name = '{other}' (was '{folder}')" in outcome.err
    assert settings_of(RUN.with_name("others"))["resolved_model"]["num_classes"] == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--from-run", "rum"), "did you mean 'run'?"),
        (("--from-run", "run", "--resume", "run"), "--resume and --from-run do not go together"),
        (("--from-run", "run", "--dry-run"), "--from-run and --dry-run do not go together"),
        (("--from-run", "run", "--recipe", "photos"), "--recipe and --from-run both give all settings"),
        (("--from-run", "run", "--name", "run"), "run 'run' exists already"),
        (("--from-run", "run", "--set", "model.depht=2"), "did you mean 'model.depth'?"),
        (("--from-run", "begun"), "ended before its settings were stored"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_trained_anew_is_said_and_nothing_is_written(
    run_cli: RunCli, shapes: Path, words: tuple[str, ...], said: str
) -> None:
    stopped_run(shapes, after=1)
    shutil.copytree(RUN, "experiments/begun")
    Path("experiments/begun/split.json").unlink()
    before = dict(results(Path("experiments")))
    outcome = run_cli("train", *words)
    assert outcome.code in {1, 2}
    assert said in outcome.err
    assert dict(results(Path("experiments"))) == before


def test_no_number_of_workers_and_no_cache_changes_a_bit(tmp_path: Path, data_dir: Path) -> None:
    draws = np.random.default_rng(0)
    for number in range(24):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = (int(side) for side in draws.integers(20, 60, 2))
        Image.fromarray(draws.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    found = []
    for number, (workers, cache) in enumerate([(1, "ram"), (3, "disk"), (3, "off")]):
        where = {"name": str(tmp_path / "photos"), "dir": str(data_dir / f"cache-{number}")}
        size: dict[str, Any] = {"image_size": [16, 16], "patch_size": [8, 8]}
        model = {"model": {**TINY["model"], "name": "vit-nano-patch4", **size}}
        chosen = {"data": {**where, "workers": workers, "cache": cache}, "run": {"name": f"run-{number}"}}
        train(TINY, DRAWS, model, chosen)
        found.append(computed(Path(f"experiments/run-{number}")))
    assert all(each == found[0] for each in found[1:])
