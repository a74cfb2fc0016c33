"""Each command as a user types it, through ``main``, with what it prints and what it leaves on disk."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from tests.builders.processes import running, vit
from vitcli import __version__
from vitcli.core.config_files import recipe_names
from vitcli.core.runs import Run
from vitcli.data.registry import DATASETS
from vitcli.engine.checkpoint import load_checkpoint
from vitcli.models.registry import MODELS

RunCli = Callable[..., Any]
Words = tuple[str, ...]


def as_json(outcome: Any) -> Any:
    """What a command printed with ``--json``: that, and nothing else."""
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def is_picture(path: Path) -> bool:
    image = Image.open(path)
    image.load()
    return image.format == "PNG" and min(image.size) > 200


def files_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def draw_photo(path: Path, number: int) -> None:
    """A photo of its own size, shape, format and orientation."""
    random = np.random.default_rng(number)
    height, width = (int(side) for side in random.integers(40, 90, 2))
    image = Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    if number % 3 == 0:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 1 + number % 8
        image.save(path.with_suffix(".jpg"), exif=exif)
    else:
        image.quantize(16).save(path.with_suffix(".png"))


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ and test/ with six classes of photos of any size; of each class one photo is for testing."""
    root = tmp_path_factory.mktemp("folders") / "photos"
    for kind in range(6):
        for number in range(4):
            split = "test" if number == 3 else "train"
            draw_photo(root / split / f"kind-{kind}" / str(number), 10 * kind + number)
    return root


# --- vit train ---


def test_a_run_keeps_settings_metrics_weights_and_curves(trained_run: Path) -> None:
    run = Run(trained_run)
    assert run.status == "finished"
    assert [record["epoch"] for record in run.metrics["epochs"]] == [1, 2]
    assert run.metrics["best"] in run.metrics["epochs"]
    assert run.config["model"]["depth"] == 1
    assert run.config["optim"]["epochs"] == 2
    assert run.config["resolved_model"]["image_size"] == [8, 8]
    assert run.figure("curves").is_file()
    for name in ("best", "last"):
        assert load_checkpoint(run.checkpoint(name)).classes == tuple("0123456789")


@pytest.mark.pictures
def test_training_reports_its_result_as_facts_and_as_json(
    run_cli: RunCli, shapes: Path, tiny: Words, tmp_path: Path
) -> None:
    plain = run_cli("train", shapes, *tiny)
    assert plain.code == 0
    assert "shapes-vit-nano-patch4-001" in plain.out
    assert "  1/1 " in plain.err
    assert "vit eval" in plain.err
    result = as_json(run_cli("train", shapes, *tiny, "--json"))
    assert result["train_images"] + result["val_images"] == 16
    assert result["run"] == "shapes-vit-nano-patch4-002"
    assert Path(result["path"]).resolve() == tmp_path / "experiments" / result["run"]
    assert is_picture(Run(Path(result["path"])).figure("curves"))


def test_training_twice_gives_two_runs_and_the_same_model(
    run_cli: RunCli, shapes: Path, tiny: Words, tmp_path: Path
) -> None:
    words = ("train", shapes, *tiny, "--epochs", "2", "--device", "cpu", "--json")
    results = [as_json(run_cli(*words)) for _ in range(2)]
    assert [result["run"][-4:] for result in results] == ["-001", "-002"]
    first, second = (Run(tmp_path / "experiments" / result["run"]) for result in results)
    for record, again in zip(first.metrics["epochs"], second.metrics["epochs"], strict=True):
        assert {key: record[key] for key in ("train_loss", "val_loss", "val_accuracy")} == {
            key: again[key] for key in ("train_loss", "val_loss", "val_accuracy")
        }
    weights, weights_again = (load_checkpoint(run.checkpoint("last")).weights for run in (first, second))
    assert all(weights[name].equal(weights_again[name]) for name in weights)


def test_a_model_whose_sizes_were_changed_says_so(run_cli: RunCli, shapes: Path, tiny: Words, tmp_path: Path) -> None:
    outcome = run_cli("train", shapes, *tiny, "--set", "model.patch_size=4x2", "--set", "model.width=24")
    assert outcome.code == 0, outcome.err
    assert "shapes-vit-nano-patch4x2-001" in outcome.out
    (model,) = [" ".join(line.split()) for line in outcome.out.splitlines() if line.startswith("model ")]
    assert model.startswith("model vit-nano-patch4x2 (width 24, depth 1, num_heads 2, mlp_width 32), ")
    run = Run(tmp_path / "experiments" / "shapes-vit-nano-patch4x2-001")
    assert run.info["model"] == load_checkpoint(run.best_checkpoint).model.name == "vit-nano-patch4x2"
    same = run_cli("train", shapes, *tiny, "--set", "model.num_heads=4", "--name", "same")
    assert "(width 16, depth 1, mlp_width 32)" in " ".join(same.out.split()), "vit-nano has 4 heads"
    again = run_cli("train", "--from-run", run.name, "--epochs", "1")
    assert again.code == 0, again.err
    assert "shapes-vit-nano-patch4x2-002" in again.out


def test_another_seed_gives_another_model(run_cli: RunCli, shapes: Path, tiny: Words) -> None:
    losses = {as_json(run_cli("train", shapes, *tiny, "--seed", seed, "--json"))["best"]["val_loss"] for seed in (1, 2)}
    assert len(losses) == 2


def test_a_name_that_is_taken_is_refused_unless_overwriting_is_asked_for(
    run_cli: RunCli, shapes: Path, tiny: Words, tmp_path: Path
) -> None:
    words = ("train", shapes, *tiny, "--name", "mine", "--output-dir", "runs")
    assert run_cli(*words).code == 0
    before = Run(tmp_path / "runs" / "mine").info
    refused = run_cli(*words)
    assert refused.code == 1
    assert "'mine' exists already" in refused.err
    assert "--overwrite" in refused.err
    assert Run(tmp_path / "runs" / "mine").info == before
    assert run_cli(*words, "--overwrite").code == 0
    assert Run(tmp_path / "runs" / "mine").info != before
    assert len(list((tmp_path / "runs").iterdir())) == 1


@pytest.mark.parametrize("name", ["a/b", "../outside"])
def test_a_name_that_is_a_path_is_refused_or_its_run_is_listed(
    run_cli: RunCli, shapes: Path, tiny: Words, name: str
) -> None:
    """A run that neither `vit runs` nor `vit eval` can see is as good as lost."""
    outcome = run_cli("train", shapes, *tiny, "--name", name)
    listed = as_json(run_cli("runs", "--json"))
    assert (outcome.code in {1, 2} and name in outcome.err) or len(listed) == 1


def test_recipe_file_set_and_options_are_taken_in_this_order(
    run_cli: RunCli, shapes: Path, tiny: Words, tmp_path: Path
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        '[run]\nname = "from-file"\n[optim]\nbatch_size = 5\nlr = 0.5\nweight_decay = 0.5\nlabel_smoothing = 0.25\n'
    )
    words = ("--recipe", "digits", "--config", file, "--set", "optim.lr=0.25", "--set", "optim.weight_decay=0.25")
    assert run_cli("train", shapes, *words, *tiny, "--lr", "0.125").code == 0
    config = Run(tmp_path / "experiments" / "from-file").config
    assert config["run"]["recipe"] == "digits"
    assert config["augment"]["rotate"] == 10.0
    assert config["optim"]["batch_size"] == 5
    assert config["optim"]["label_smoothing"] == 0.25
    assert config["optim"]["weight_decay"] == 0.25
    assert config["optim"]["lr"] == 0.125


def test_a_config_file_alone_is_enough(run_cli: RunCli, shapes: Path, tmp_path: Path) -> None:
    model = 'name = "vit-nano-patch2"\ndepth = 1\nwidth = 16\nnum_heads = 2\nmlp_width = 16'
    (tmp_path / "all.toml").write_text(f'[data]\nname = "{shapes}"\n[model]\n{model}\n[optim]\nepochs = 1\n')
    result = as_json(run_cli("train", "--config", "all.toml", "--json"))
    assert result["dataset"] == "shapes"
    assert result["model"] == "vit-nano-patch2"


def test_what_was_decided_for_the_user_is_said(run_cli: RunCli, tiny: Words, shapes: Path) -> None:
    outcome = run_cli("train", *tiny)
    assert outcome.code == 0
    assert "training on digits" in outcome.err
    assert "recipe: digits, the default for digits" in outcome.err
    assert "recipe: small-images, because all images have 8 x 8 pixels" in run_cli("train", shapes, *tiny).err


def test_small_photos_are_trained_on_with_the_recipe_for_them(
    run_cli: RunCli, photos: Path, tiny: Words, tmp_path: Path
) -> None:
    small = ("--image-size", "36x48", "--val-fraction", "0.3", "--name", "photos")
    outcome = run_cli("train", photos, *tiny, *small)
    assert outcome.code == 0, outcome.err
    chosen = "recipe: small-photos, because the photos are small (short side: 58 pixels, median)"
    assert f"{chosen}; vit-mini-patch6" in outcome.err
    checkpoint = load_checkpoint(Run(tmp_path / "experiments" / "photos").best_checkpoint)
    assert checkpoint.model.image_size == (36, 48)
    assert checkpoint.preprocessing.geometry.size == (36, 48)


def test_checkpoints_are_kept_every_so_many_epochs(run_cli: RunCli, shapes: Path, tiny: Words, tmp_path: Path) -> None:
    assert run_cli("train", shapes, *tiny, "--epochs", "4", "--save-every", "2", "--name", "kept").code == 0
    names = {path.name for path in (tmp_path / "experiments" / "kept" / "checkpoints").iterdir()}
    assert names == {f"{name}.safetensors" for name in ("best", "last", "state", "epoch-0002", "epoch-0004")}


def test_training_starts_from_the_weights_of_a_run(
    run_cli: RunCli, trained_run: Path, tiny: Words, tmp_path: Path
) -> None:
    still = ("--lr", "1e-12", "--set", "optim.adamw_lr=1e-12", "--no-ema")
    outcome = run_cli("train", "digits", *tiny, *still, "--init-from", trained_run, "--name", "child")
    assert outcome.code == 0, outcome.err
    assert "weights from" in outcome.err
    source = load_checkpoint(Run(trained_run).best_checkpoint).weights
    child = load_checkpoint(Run(tmp_path / "experiments" / "child").checkpoint("last")).weights
    assert all(source[name].allclose(child[name], atol=1e-6) for name in source)


def test_other_classes_get_a_new_head_and_a_frozen_backbone_stays_as_it_was(
    run_cli: RunCli, trained_run: Path, shapes: Path, tiny: Words, tmp_path: Path
) -> None:
    frozen = ("--freeze-backbone", "--no-ema", "--init-from")
    outcome = run_cli("train", shapes, *tiny, *frozen, trained_run, "--name", "tuned")
    assert outcome.code == 0, outcome.err
    assert re.search(r"new +head\n", outcome.err)
    source = load_checkpoint(Run(trained_run).best_checkpoint).weights
    tuned = load_checkpoint(Run(tmp_path / "experiments" / "tuned").checkpoint("last")).weights
    assert [tuned[name].shape[0] for name in tuned if name.startswith("head.")] == [2, 2]
    assert all(source[name].equal(tuned[name]) for name in source if not name.startswith("head."))


def test_weights_that_do_not_fit_are_refused(run_cli: RunCli, trained_run: Path, shapes: Path, tmp_path: Path) -> None:
    outcome = run_cli("train", shapes, "--init-from", trained_run, "--model", "vit-micro-patch4")
    assert outcome.code == 1
    assert "do not fit vit-micro-patch4" in outcome.err
    assert "leave out --model" in outcome.err
    assert not (tmp_path / "experiments").exists()


def test_training_that_diverges_says_so_and_marks_the_run(
    run_cli: RunCli, shapes: Path, tiny: Words, tmp_path: Path
) -> None:
    wild = ("--lr", "1e38", "--opt", "sgd", "--clip-grad", "0", "--warmup-epochs", "0", "--batch-size", "4")
    outcome = run_cli("train", shapes, *tiny, *wild, "--epochs", "5", "--name", "wild")
    assert outcome.code == 1
    assert "the loss became" in outcome.err
    assert "--lr" in outcome.err
    assert Run(tmp_path / "experiments" / "wild").status == "failed"


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_training_with_its_weights_saved(
    processes: ForkServerContext,
    shapes: Path,
    data_dir: Path,
    tiny: Words,
    tmp_path: Path,
    number: signal.Signals,
    code: int,
) -> None:
    words = ("train", str(shapes), *tiny, "--epochs", "1000000", "--name", "stopped", "--data-dir", str(data_dir))
    path = tmp_path / "experiments" / "stopped"
    with running(processes.Process(target=vit, args=(tmp_path, words))) as process:
        assert process.pid is not None
        while not (path / "metrics.json").exists():
            assert process.is_alive()
            time.sleep(0.02)
        os.kill(process.pid, number)
        process.join(60)
        assert process.exitcode == code
    said = (tmp_path / "said.txt").read_text()
    assert "stopped by" in said
    assert "`vit train --resume stopped` continues the run" in said
    assert "saved" in said
    assert "error" not in said
    assert "Traceback" not in said
    run = Run(path)
    assert run.status == "interrupted"
    assert load_checkpoint(run.checkpoint("last")).classes == ("left", "right")


# --- vit eval ---


@pytest.fixture(scope="module", params=["small images", "photos"])
def folder_run(
    request: pytest.FixtureRequest,
    run_cli: RunCli,
    photos: Path,
    image_folder: Callable[..., Path],
    data_dir: Path,
    tiny: Words,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Path]:
    """A data set with one test image per class, and a run on it: (folder, run)."""
    output_dir = tmp_path_factory.mktemp("folder-runs")
    folder = photos
    if request.param == "small images":
        counts = {
            f"{split}/kind-{kind}": 3 if split == "train" else 1 for kind in range(6) for split in ("train", "test")
        }
        folder = image_folder(output_dir / "data" / "drawn", counts, size=(12, 16), mode="RGB")
    words = ("--recipe", "small-images", "--epochs", "3", "--val-fraction", "0.3", "--name", "run")
    size = ("--image-size", "32") if folder == photos else ()
    where = ("--output-dir", output_dir, "--data-dir", data_dir)
    outcome = run_cli("train", folder, *tiny, *words, *size, *where)
    assert outcome.code == 0, outcome.err
    return folder, output_dir / "run"


def test_eval_and_predict_say_the_same_of_every_image(run_cli: RunCli, folder_run: tuple[Path, Path]) -> None:
    """Of each class there is one test image, so that a row of the confusion matrix is one prediction."""
    folder, run = folder_run
    evaluated = as_json(run_cli("eval", "--model", run, "--json"))
    predicted = as_json(run_cli("predict", folder / "test", "--model", run, "--json"))
    assert evaluated["split"] == "test"
    assert evaluated["metrics"]["images"] == len(predicted["rows"]) == 6
    classes = [each["name"] for each in evaluated["metrics"]["classes"]]
    by_eval = {classes[true]: classes[predicted] for true, predicted, _ in evaluated["metrics"]["confusion"]}
    by_predict = {Path(row["path"]).parent.name: row["classes"][0] for row in predicted["rows"]}
    assert by_eval == by_predict


@pytest.mark.pictures
def test_eval_prints_numbers_and_stores_them_with_a_figure(run_cli: RunCli, trained_run: Path) -> None:
    outcome = run_cli("eval", "--output-dir", trained_run.parent)
    assert outcome.code == 0
    for word in ("top-1", "macro F1", "359 images", "confusion matrix", "test split"):
        assert word in outcome.out
    assert "the newest finished run, shared" in outcome.err
    stored = json.loads(Run(trained_run).evaluation("test").read_text())
    most = max(stored["classes"], key=lambda each: each["images"])
    share = f"{100 * most['images'] / 359:.2f} %, by always answering {most['name']}"
    assert share in outcome.out
    assert stored["images"] == 359
    assert sum(count for *_, count in stored["confusion"]) == 359
    assert is_picture(Run(trained_run).figure("confusion-test"))


def test_eval_as_json_is_what_it_stores(run_cli: RunCli, trained_run: Path) -> None:
    result = as_json(run_cli("eval", "--model", trained_run, "--json"))
    stored = json.loads(Path(result["files"]["metrics"]).read_text())
    assert result["dataset"] == stored["dataset"] == "digits"
    assert {key: stored[key] for key in result["metrics"]} == result["metrics"]
    assert result["metrics"]["top1"] == sum(each["correct"] for each in stored["classes"]) / 359


def test_eval_of_the_validation_images_gives_what_training_said(run_cli: RunCli, trained_run: Path) -> None:
    result = as_json(run_cli("eval", "--model", trained_run, "--split", "val", "--device", "cpu", "--json"))
    best = Run(trained_run).metrics["best"]
    assert result["metrics"]["images"] == 143
    assert result["metrics"]["top1"] == pytest.approx(best["val_accuracy"])
    assert result["metrics"]["loss"] == pytest.approx(best["val_loss"], rel=1e-4)


def test_eval_of_the_training_images_leaves_out_those_held_out(run_cli: RunCli, trained_run: Path) -> None:
    assert as_json(run_cli("eval", "--model", trained_run, "--split", "train", "--json"))["metrics"]["images"] == 1295


def test_the_batch_size_of_eval_changes_nothing(run_cli: RunCli, trained_run: Path) -> None:
    results = [as_json(run_cli("eval", "--model", trained_run, "--batch-size", size, "--json")) for size in (100, 359)]
    assert results[0]["metrics"]["confusion"] == results[1]["metrics"]["confusion"]


def test_eval_without_a_test_split_warns_and_takes_the_validation_images(
    run_cli: RunCli, image_folder: Callable[..., Path], tiny: Words, tmp_path: Path
) -> None:
    image_folder(tmp_path / "untested", {"train/cat": 6, "train/dog": 6, "val/cat": 2, "val/dog": 2})
    assert run_cli("train", "untested", *tiny).code == 0
    outcome = run_cli("eval", "--json")
    assert as_json(outcome)["split"] == "val"
    assert as_json(outcome)["metrics"]["images"] == 4
    assert "warning: there is no test split" in outcome.err


def test_eval_of_a_split_that_is_not_there_is_refused(
    run_cli: RunCli, image_folder: Callable[..., Path], tiny: Words, tmp_path: Path
) -> None:
    counts = {f"{split}/{name}": 6 for split in ("train", "val") for name in ("cat", "dog")}
    image_folder(tmp_path / "untested", counts)
    assert run_cli("train", "untested", *tiny).code == 0
    outcome = run_cli("eval", "--split", "test", "--device", "cpu")
    assert outcome.code == 1
    assert "untested has no test split\nhint: it has train, val: `vit eval --device cpu --split val`\n" in outcome.err


@pytest.fixture
def run_on_pets(run_cli: RunCli, image_folder: Callable[..., Path], tiny: Words, tmp_path: Path) -> Path:
    """A run on the flat folder ``pets`` of this test's folder."""
    image_folder(tmp_path / "pets", {"cat": 20, "dog": 20})
    assert run_cli("train", "pets", *tiny, "--name", "pets").code == 0
    return tmp_path / "experiments" / "pets"


@pytest.mark.parametrize("written", ["pets", "./pets/"])
def test_the_training_folder_is_recognised_however_its_path_is_written(
    run_cli: RunCli, run_on_pets: Path, written: str
) -> None:
    """Else its training images would count as unseen, and `vit runs` would not show the test accuracy."""
    plain, named = (as_json(run_cli("eval", *words, "--split", "train", "--json")) for words in ((), (written,)))
    assert named["metrics"]["images"] == plain["metrics"]["images"]
    assert named["files"] == plain["files"]
    assert run_cli("eval", written).code == 0
    assert Run(run_on_pets).test_accuracy is not None


def test_eval_on_another_folder_is_stored_under_its_name(
    run_cli: RunCli, run_on_pets: Path, image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    image_folder(tmp_path / "strays", {"test/cat": 3, "test/dog": 2, "train/cat": 1, "train/dog": 1})
    result = as_json(run_cli("eval", "strays", "--json"))
    assert result["metrics"]["images"] == 5
    assert Path(result["files"]["metrics"]).resolve() == Run(run_on_pets).evaluation("strays-test")
    assert Run(run_on_pets).test_accuracy is None


def test_training_images_of_another_folder_are_not_called_validation_images(
    run_cli: RunCli, run_on_pets: Path, image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """A folder with nothing but train/ has no validation images, and none of its images chose an epoch."""
    image_folder(tmp_path / "strays", {"train/cat": 3, "train/dog": 2})
    outcome = run_cli("eval", "strays", "--model", run_on_pets, "--json")
    assert "these validation images chose the epoch" not in outcome.err
    assert outcome.code == 1 or json.loads(outcome.out)["split"] != "val"


def test_classes_are_aligned_by_name_when_another_folder_has_fewer(
    run_cli: RunCli, image_folder: Callable[..., Path], tiny: Words, tmp_path: Path
) -> None:
    image_folder(tmp_path / "three", {"ant": 10, "bee": 10, "cow": 10})
    image_folder(tmp_path / "two", {"test/bee": 4, "test/cow": 3, "train/bee": 1, "train/cow": 1})
    assert run_cli("train", "three", *tiny).code == 0
    metrics = as_json(run_cli("eval", "two", "--json"))["metrics"]
    assert [(each["name"], each["images"]) for each in metrics["classes"]] == [("ant", 0), ("bee", 4), ("cow", 3)]


def test_a_class_that_the_model_does_not_know_is_named(
    run_cli: RunCli, run_on_pets: Path, image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    image_folder(tmp_path / "zoo", {"cat": 4, "emu": 4})
    outcome = run_cli("eval", "zoo", "--model", run_on_pets)
    assert outcome.code == 1
    assert "'emu'" in outcome.err
    assert "--classes shared judges the others; the model knows cat, dog" in outcome.err


def test_a_data_set_that_has_changed_since_training_is_reported(
    run_cli: RunCli, run_on_pets: Path, tmp_path: Path
) -> None:
    shutil.copy(tmp_path / "pets" / "cat" / "000.png", tmp_path / "pets" / "cat" / "new.png")
    outcome = run_cli("eval", "--model", run_on_pets)
    assert outcome.code == 0
    assert "pets has changed since" in outcome.err


def test_a_checkpoint_outside_of_a_run_is_evaluated_and_nothing_is_stored(
    run_cli: RunCli, trained_run: Path, tmp_path: Path
) -> None:
    shutil.copy(Run(trained_run).best_checkpoint, tmp_path / "alone.safetensors")
    result = as_json(run_cli("eval", "--model", "alone.safetensors", "--json"))
    assert result["model"] == "alone"
    assert result["files"] == {}
    assert files_below(tmp_path) == {tmp_path / "alone.safetensors"}


# --- vit predict ---


def test_predict_takes_files_folders_and_patterns_each_image_once(
    run_cli: RunCli, trained_run: Path, digit: Path, shapes: Path
) -> None:
    inputs = (digit, shapes / "left", f"{shapes}/*/00[01].png", digit)
    rows = as_json(run_cli("predict", *inputs, "--model", trained_run, "--json"))["rows"]
    left = [str(path) for path in sorted((shapes / "left").iterdir())]
    right = [str(shapes / "right" / f"00{number}.png") for number in (0, 1)]
    assert [row["path"] for row in rows] == [str(digit), *left, *right]


def test_predict_prints_a_table(run_cli: RunCli, trained_run: Path, digit: Path) -> None:
    outcome = run_cli("predict", digit, "--output-dir", trained_run.parent, "--top-k", "2")
    assert outcome.code == 0
    assert str(digit) in outcome.out
    assert outcome.out.count(" %") == 2
    assert "the newest finished run, shared" in outcome.err


@pytest.mark.parametrize(("asked", "given"), [(1, 1), (3, 3), (10, 10), (50, 10)])
def test_predict_gives_as_many_classes_as_asked_for_the_most_probable_first(
    run_cli: RunCli, trained_run: Path, digit: Path, asked: int, given: int
) -> None:
    (row,) = as_json(run_cli("predict", digit, "--model", trained_run, "--top-k", asked, "--json"))["rows"]
    assert len(set(row["classes"])) == len(row["probabilities"]) == given
    assert row["probabilities"] == sorted(row["probabilities"], reverse=True)
    assert sum(row["probabilities"]) == pytest.approx(1) if given == 10 else sum(row["probabilities"]) <= 1


def test_predict_writes_csv(run_cli: RunCli, trained_run: Path, shapes: Path, tmp_path: Path) -> None:
    words = ("--model", trained_run, "--top-k", "2", "--csv", tmp_path / "out" / "rows.csv")
    outcome = run_cli("predict", shapes, *words)
    assert outcome.code == 0
    assert outcome.out == ""
    with (tmp_path / "out" / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "class", "probability", "class_2", "probability_2", "error"]
    assert [row["path"] for row in rows] == [str(path) for path in sorted(shapes.rglob("*.png"))]
    assert all(0 <= float(row["probability_2"]) <= float(row["probability"]) <= 1 for row in rows)
    as_printed = as_json(run_cli("predict", shapes, *words, "--json"))["rows"]
    assert [row["classes"] for row in as_printed] == [[row["class"], row["class_2"]] for row in rows]


def test_an_image_that_cannot_be_read_gets_a_row_and_the_exit_code_is_1(
    run_cli: RunCli, trained_run: Path, shapes: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(shapes / "left", folder)
    (folder / "004-bad.png").write_text("no image")
    outcome = run_cli("predict", folder, "--model", trained_run, "--batch-size", "3", "--csv", "rows.csv", "--json")
    assert outcome.code == 1
    rows = json.loads(outcome.out)["rows"]
    assert len(rows) == 11
    (bad,) = [row for row in rows if row["error"]]
    assert bad["path"].endswith("004-bad.png")
    assert "004-bad.png" in bad["error"]
    assert bad["classes"] == []
    good = as_json(run_cli("predict", shapes / "left", "--model", trained_run, "--json"))["rows"]
    assert [row["classes"] for row in rows if not row["error"]] == [row["classes"] for row in good]
    with Path("rows.csv").open(newline="") as file:
        assert [row["class"] for row in csv.DictReader(file)].count("") == 1
    table = run_cli("predict", folder, "--model", trained_run)
    assert table.code == 1
    (line,) = [line for line in table.out.splitlines() if "error:" in line]
    assert " ".join(line.split()) == f"{folder / '004-bad.png'} error: it is not an image in a known format"


def test_the_last_checkpoint_can_be_used_by_its_file(run_cli: RunCli, trained_run: Path, digit: Path) -> None:
    result = as_json(run_cli("predict", digit, "--model", Run(trained_run).checkpoint("last"), "--json"))
    assert result["model"] == "shared"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_predict_takes_images_of_any_mode_and_size(
    run_cli: RunCli, trained_run: Path, tmp_path: Path, mode: str
) -> None:
    path = tmp_path / ("image.tif" if mode in {"CMYK", "LA"} else "image.png")
    Image.new(mode, (33, 21)).save(path)
    assert len(as_json(run_cli("predict", path, "--model", trained_run, "--json"))["rows"][0]["classes"]) == 1


# --- lists, downloads, and the program itself ---


def test_lists_name_what_there_is(run_cli: RunCli, trained_run: Path) -> None:
    for command, names in (("models", MODELS), ("datasets", DATASETS), ("recipes", recipe_names())):
        outcome = run_cli(command)
        assert outcome.code == 0
        assert all(name in outcome.out for name in names)
        assert [row["name"] for row in as_json(run_cli(command, "--json"))] == list(names)
    outcome = run_cli("runs", "--output-dir", trained_run.parent)
    assert outcome.code == 0
    assert "shared" in outcome.out
    assert "finished" in outcome.out


def test_parameters_are_listed_in_full(run_cli: RunCli) -> None:
    listed = {row["name"]: row["parameters"] for row in as_json(run_cli("models", "--json"))}
    assert listed["vit-tiny-patch16"] == 5_717_416  # as timm counts vit_tiny_patch16_224
    assert f"{listed['vit-tiny-patch16']:,}" in run_cli("models").out


def test_runs_are_listed_with_their_accuracies(run_cli: RunCli, trained_run: Path) -> None:
    tested = as_json(run_cli("eval", "--model", trained_run, "--json"))["metrics"]["top1"]
    (row,) = as_json(run_cli("runs", "--output-dir", trained_run.parent, "--json"))
    assert (row["name"], row["status"], row["dataset"], row["epochs"]) == ("shared", "finished", "digits", 2)
    assert row["val_accuracy"] == Run(trained_run).metrics["best"]["val_accuracy"]
    assert row["test_accuracy"] == tested


def test_without_runs_the_list_is_empty_and_says_what_to_do(run_cli: RunCli) -> None:
    assert as_json(run_cli("runs", "--json")) == []
    outcome = run_cli("runs")
    assert outcome.code == 0
    assert outcome.out == ""
    assert "vit train" in outcome.err


def test_a_broken_run_does_not_hide_the_others(run_cli: RunCli, trained_run: Path, tmp_path: Path) -> None:
    """A file that a crash left broken, or a stray one: the list is where a user would look for it."""
    for name in ("good", "no-json", "bad-metrics", "bad-evaluation"):
        shutil.copytree(trained_run, tmp_path / name)
    (tmp_path / "no-json" / "run.json").write_text("{")
    (tmp_path / "bad-metrics" / "metrics.json").write_text("{")
    (tmp_path / "bad-evaluation" / "evaluations").mkdir(exist_ok=True)
    (tmp_path / "bad-evaluation" / "evaluations" / "test.json").write_text("{}")
    rows = as_json(run_cli("runs", "--output-dir", tmp_path, "--json"))
    assert "good" in {row["name"] for row in rows}


def test_the_bundled_digits_need_no_network(run_cli: RunCli, tmp_path: Path, tiny: Words) -> None:
    where = ("--data-dir", tmp_path / "store")
    result = as_json(run_cli("download", "digits", *where, "--json"))
    assert result["images"] == {"train": 1438, "test": 359}
    assert result["classes"] == 10
    again = run_cli("download", "digits", *where)
    assert "already there" in again.out
    assert "vit train" in again.err
    trained = run_cli("train", *tiny, *where)
    assert trained.code == 0
    assert "training on digits" in trained.err


@pytest.mark.parametrize("command", ["", "train", "eval", "predict", "attention-map", "download", "models", "runs"])
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_command_has_help(run_cli: RunCli, command: str, option: str) -> None:
    outcome = run_cli(*command.split(), option)
    assert outcome.code == 0
    assert "Usage: vit" in outcome.out
    assert outcome.err == ""


def test_the_program_alone_prints_its_help_and_no_error(run_cli: RunCli) -> None:
    outcome = run_cli()
    assert (outcome.code, outcome.err) == (2, "")
    assert "Usage: vit" in outcome.out


@pytest.mark.parametrize("command", ["train", "predict", "runs compare"])
def test_paragraphs_of_help_are_as_wide_as_the_terminal(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    lines = [line.strip() for line in run_cli(*command.split(), "--help").out.splitlines()]
    first, last = (next(at for at, line in enumerate(lines) if line.startswith(start)) for start in ("Usage", "╭"))
    text = lines[first + 1 : last]
    assert [each for each in text if each and not each.endswith((".", "`"))] == []
    assert any(each.count(". ") for each in text), "more than one sentence"


def test_the_version_is_printed(run_cli: RunCli) -> None:
    assert run_cli("--version").out == f"vit {__version__}\n"


ENDING = """
import atexit, sys, threading, time
from vitcli.cli import app

class Object:
    def __del__(self):
        print("destroyed")

def work():
    atexit.register(print, "cleaned up")  # by a library that the command has imported
    threading.Thread(target=lambda: (time.sleep(0.1), print("finished"))).start()
    sys.exit(3)

kept, app.main = Object(), work
app.run()
"""


def test_the_program_ends_after_threads_and_clean_up_and_destroys_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "finished\ncleaned up\n", "")


@pytest.mark.skipif(os.name != "posix", reason="closed pipes have another error elsewhere")
@pytest.mark.parametrize("word", ["models", "--help", "--version"])
def test_a_reader_that_has_seen_enough_ends_the_program_in_silence(word: str) -> None:
    read, write = os.pipe()
    os.close(read)
    words = [sys.executable, "-m", "vitcli", word]
    done = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


INTERRUPTED = """
import signal, sys
from importlib import abc

class Interrupting(abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == sys.argv[1]:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
from vitcli.__main__ import run
run()
"""


@pytest.mark.parametrize("module", ["vitcli.cli.app", "typer", "vitcli.workflows.runs"])  # imported early, and late
def test_an_interrupt_at_any_moment_of_the_start_ends_in_the_usual_words(tmp_path: Path, module: str) -> None:
    code = INTERRUPTED.replace("sys.argv[1]", repr(module))
    words = [sys.executable, "-c", code, "runs"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped by Ctrl-C\n")


@pytest.mark.parametrize("place", ["vitcli.cli.app.app", "typer.core.TyperGroup.make_context"])
def test_an_interrupt_before_a_command_begins_ends_in_the_usual_words(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(place, interrupt)
    outcome = run_cli("runs")
    assert (outcome.code, outcome.err) == (130, "stopped by Ctrl-C\n")


def test_a_tilde_in_the_value_of_an_option_is_the_home_folder(
    run_cli: RunCli, trained_run: Path, digit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    shutil.copytree(trained_run, home / "runs" / "one")
    monkeypatch.setenv("HOME", str(home))
    assert [row["name"] for row in as_json(run_cli("runs", "--json", "--output-dir=~/runs"))] == ["one"]
    assert [row["name"] for row in as_json(run_cli("runs", "--json", "-o~/runs"))] == ["one"]
    model = ("--model", "one", "--output-dir=~/runs")
    assert run_cli("predict", digit, *model, "--csv=~/rows.csv").code == 0
    assert run_cli("attention-map", digit, *model, "--output=~/map.png").code == 0
    assert run_cli("report", *model[1:], "--output=~/page.html").code == 0
    assert {path.name for path in home.iterdir()} == {"runs", "rows.csv", "map.png", "page.html"}
    assert not Path("~").exists()


def test_the_package_runs_as_a_module(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vitcli", "runs", "--json"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout == "[]\n"
