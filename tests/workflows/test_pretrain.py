"""``vit pretrain``: images without labels, what is held out, resuming, and training from the weights."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vitcli
from tests.builders.runs import Stopped, plain
from tests.conftest import Outcome
from vitcli.core.errors import RunError, UsageError
from vitcli.core.events import Event, Note, PretrainingEpoch, Warned
from vitcli.engine.checkpoint import load_checkpoint
from vitcli.training.pretraining import Pretraining
from vitcli.workflows.pretrain import pretrain, resume_pretraining

RunCli = Callable[..., Outcome]
ImageFolder = Callable[..., Path]
SMALL = (
    "--set",
    "model.depth=1",
    "--set",
    "model.width=16",
    "--set",
    "model.num_heads=2",
    "--set",
    "model.mlp_width=32",
)
QUICK = (*SMALL, "--epochs", "2", "--amp", "off", "--device", "cpu")
LAYERS: dict[str, dict[str, Any]] = {
    "model": {"depth": 1, "width": 16, "num_heads": 2, "mlp_width": 32},
    "optim": {"epochs": 3, "batch_size": 8},
    "run": {"device": "cpu", "amp": "off", "name": "pre"},
}


def said(outcome: Outcome) -> str:
    return " ".join(outcome.err.split())


@pytest.fixture
def unlabelled(image_folder: ImageFolder, tmp_path: Path) -> Path:
    """30 images in one folder, and one below it."""
    folder = image_folder(tmp_path / "made", {"a": 10, "b": 10, "c": 10})
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    for number, path in enumerate(sorted(folder.rglob("*.png"))):
        shutil.copy(path, tmp_path / "photos" / ("deep" if number == 7 else "") / f"{number:02d}.png")
    return tmp_path / "photos"


def test_images_without_labels_are_learned_from_and_few_labels_start_from_the_weights(
    run_cli: RunCli, unlabelled: Path, image_folder: ImageFolder, tmp_path: Path
) -> None:
    outcome = run_cli("pretrain", unlabelled, *QUICK, "--name", "pre", "--json")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    assert "photos has neither folders of classes nor a table of labels: its images count as one kind" in said(outcome)
    assert "photos: 27 train, 3 val\n" in outcome.err
    assert (result["images"], result["held_out"], result["epochs"]) == (27, 3, 2)
    assert 0 < result["val_loss"] < 2
    folder = tmp_path / "experiments" / "pre"
    assert {path.name for path in folder.iterdir()} == {
        *(".lock", "figures", "pretraining.json", "state", "weights.safetensors")
    }
    assert {path.name for path in (folder / "figures").iterdir()} == {"curves.png", "reconstructions.png"}
    stored = json.loads((folder / "pretraining.json").read_text())
    assert (stored["status"], len(stored["epochs"])) == ("finished", 2)
    assert stored["epochs"][-1]["train_loss"] == result["train_loss"]

    image_folder(tmp_path / "few", {"a": 6, "b": 6})
    trained = run_cli("train", "few", "--init-from", "pre", "--epochs", "1", "--name", "run", "--amp", "off")
    assert trained.code == 0, trained.err
    assert "recipe: small-images, with which the weights were pretrained" in said(trained)
    assert "new head" in said(trained)
    assert "may destroy" not in said(trained)
    assert load_checkpoint(Path("experiments/run/checkpoints/best.safetensors")).model.depth == 1
    assert run_cli("predict", unlabelled / "00.png", "--model", "pre").code == 1
    assert "has no classifier" in run_cli("predict", unlabelled / "00.png", "--model", "pre").err
    listed = run_cli("runs")
    assert "pre " not in listed.out
    assert f"\n  pre: 2 epochs of photos, held-out loss {result['val_loss']:.3f}" in listed.err
    for words in (("show", "pre"), ("delete", "pre", "--yes")):
        refused = run_cli("runs", *words)
        assert (refused.code, "pre is a pretraining, not a run" in refused.err) == (1, True)
    explained = run_cli(
        "attention-map", unlabelled / "00.png", "--model", "pre", "--method", "rollout", "-o", "map.png"
    )
    assert explained.code == 0, explained.err
    assert "equally probable" not in explained.err


def test_images_that_training_holds_out_are_not_learned_from(
    run_cli: RunCli, image_folder: ImageFolder, tmp_path: Path
) -> None:
    folder = image_folder(tmp_path / "pets", {"cat": 20, "dog": 20})
    outcome = run_cli("pretrain", folder, *QUICK, "--name", "pre", "--json", "--val-fraction", "0.1")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["images"] == 28
    assert (
        "labels are not used; the 12 images that `vit train --seed 42` does not train on are left out here, too"
        in said(outcome)
    )
    trained = ("train", folder, "--init-from", "pre", "--epochs", "1", "--val-fraction", "0.1")
    assert "validation scores will be too high" not in run_cli(*trained).err
    assert "these weights were trained on some validation images" in run_cli(*trained, "--seed", "7").err


def test_a_pretraining_that_was_stopped_ends_as_if_it_had_not(unlabelled: Path, tmp_path: Path) -> None:
    def stopping(event: Event) -> None:
        if isinstance(event, PretrainingEpoch) and event.epoch == 2:
            raise Stopped

    layer = {"data": {"name": str(unlabelled)}}
    whole = pretrain(layer, LAYERS, {"run": {"output_dir": str(tmp_path / "whole")}})
    with pytest.raises(Stopped):
        pretrain(layer, LAYERS, emit=stopping)
    begun = Pretraining.open(Path("experiments/pre"))
    assert (begun.stored.status, len(begun.stored.epochs)) == ("interrupted", 2)
    assert begun.states[0].exists()
    assert begun.figure("curves").exists()
    resumed = resume_pretraining()
    assert (resumed.train_loss, resumed.val_loss) == (whole.train_loss, whole.val_loss)
    ours, theirs = (load_checkpoint(each.weights) for each in (resumed, whole))
    assert all(value.equal(theirs.weights[name]) for name, value in ours.weights.items())
    assert plain(dict(ours.provenance)) == plain(dict(theirs.provenance))


def test_a_state_that_is_broken_is_not_the_end(unlabelled: Path) -> None:
    def stopping(event: Event) -> None:
        if isinstance(event, PretrainingEpoch) and event.epoch == 2:
            raise Stopped

    with pytest.raises(Stopped):
        pretrain({"data": {"name": str(unlabelled)}}, LAYERS, emit=stopping)
    newest, before = Pretraining.open(Path("experiments/pre")).states
    newest.write_bytes(newest.read_bytes()[:-9])
    kept, told = before.read_bytes(), list[Event]()
    assert resume_pretraining("pre", emit=told.append).epochs == 3
    warnings = [event.text for event in told if isinstance(event, Warned)]
    assert any("the previous state is used" in text for text in warnings)
    assert newest.exists() > before.exists(), "a finished one can be trained on"
    with pytest.raises(RunError, match="is finished"):
        resume_pretraining("pre")
    file = Path("experiments/pre/pretraining.json")
    file.write_text(file.read_text().replace('"finished"', '"interrupted"'))
    newest.unlink()
    before.write_bytes(kept[:50])
    with pytest.raises(RunError, match="has no training state that can be read"):
        resume_pretraining("pre")
    before.unlink()
    with pytest.raises(RunError, match="has no training state that can be read"):
        resume_pretraining("pre")
    stored = json.loads(file.read_text())
    file.write_text(json.dumps(stored | {"epochs": []}))
    assert resume_pretraining("pre").epochs == 3, "killed before the first state: it begins again"


def test_what_stands_in_the_way_of_resuming_is_said(run_cli: RunCli, unlabelled: Path) -> None:
    def stopping(event: Event) -> None:
        if isinstance(event, PretrainingEpoch):
            raise Stopped

    assert "no unfinished pretraining in experiments" in run_cli("pretrain", "--resume").err
    with pytest.raises(Stopped):
        pretrain({"data": {"name": str(unlabelled)}}, LAYERS, emit=stopping)
    taken = run_cli("pretrain", unlabelled, *QUICK, "--name", "pre")
    assert taken.code == 1
    assert "pretraining 'pre' exists already" in taken.err
    assert "`vit pretrain --resume pre` continues it" in said(taken)
    assert "pre: interrupted, 1 of 3 epochs of photos, held-out loss" in run_cli("runs").err
    assert "no pretraining 'prre' in experiments" in run_cli("pretrain", "--resume", "prre").err
    refused = run_cli("pretrain", "--resume", "pre", "--lr", "0.1", "--mask-ratio", "0.9")
    assert refused.code == 2
    assert "others are given: --lr, --mask-ratio" in said(refused)
    (unlabelled / "00.png").rename(unlabelled.parent / "kept.png")
    gone = run_cli("pretrain", "--resume", "pre")
    assert gone.code == 1
    assert "does not have the images and classes that pre began with" in said(gone)
    (unlabelled.parent / "kept.png").rename(unlabelled / "00.png")
    assert run_cli("pretrain", "--resume", "pre", "--json").code == 0
    finished = run_cli("pretrain", "--resume", "pre")
    assert (finished.code, "is finished" in finished.err) == (1, True)
    assert "vit train DATASET --init-from experiments/pre` starts from its weights; --epochs 6 continues it" in said(
        finished
    )
    with pytest.raises(Stopped):
        resume_pretraining("pre", {"optim": {"epochs": 5}}, emit=stopping)
    assert "--epochs 3: pre has already begun epoch 4" in run_cli("pretrain", "--resume", "pre", "--epochs", "3").err
    longer = run_cli("pretrain", "--resume", "pre", "--epochs", "4", "--json")
    assert longer.code == 0, longer.err
    assert json.loads(longer.out)["epochs"] == 4
    assert len(Pretraining.open(Path("experiments/pre")).stored.epochs) == 4


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--mask-ratio", "1"), "--mask-ratio 1 is not between 0 and 1"),
        (("--set", "augment.mixup=0.2"), "augment.mixup = 0.2 has no meaning without labels"),
        (("--set", "optim.ema=true"), "optim.ema = True has no meaning without labels"),
        (("--set", "data.folds=3"), "pretraining has no teacher, folds"),
        (("--set", "run.overwrite=true"), "run.overwrite = True has no meaning without labels"),
        (("--set", "data.balanced_sampling=true"), "data.balanced_sampling = True has no meaning without labels"),
        (("--image-size", "4", "--set", "model.patch_size=4"), "the model has one patch"),
        (("--model", "vit-tinny"), "'vit-tinny'"),
    ],
)
def test_what_pretraining_does_not_use_is_refused(
    run_cli: RunCli, unlabelled: Path, words: tuple[str, ...], told: str
) -> None:
    outcome = run_cli("pretrain", unlabelled, *words)
    assert outcome.code == 2
    assert told in said(outcome)
    assert not Path("experiments").exists()


def test_labels_that_cannot_be_read_are_an_error_and_no_reason_to_see_what_is_held_out(
    run_cli: RunCli, unlabelled: Path, image_folder: ImageFolder, tmp_path: Path
) -> None:
    rows = "".join(f"{number:02d}.png,{number % 2}\n" for number in range(31) if number != 7)
    (unlabelled / "labels.csv").write_text(f"image,label\n{rows}")
    refused = run_cli("pretrain", unlabelled, *QUICK)
    assert refused.code == 1
    assert "images that are not there" in refused.err
    image_folder(tmp_path / "split", {"train/a": 4, "train/b": 4, "test/a": 4, "test/b": 4, "test/c": 4})
    refused = run_cli("pretrain", "split", *QUICK)
    assert refused.code == 1
    assert "lacks a class: 'c'" in refused.err
    for name in ("train", "test"):
        (tmp_path / "flat" / name).mkdir(parents=True)
        for number in range(8):
            shutil.copy(unlabelled / f"{number + 8:02d}.png", tmp_path / "flat" / name / f"{name}{number}.png")
    outcome = run_cli("pretrain", "flat", *QUICK, "--json")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    assert (result["dataset"], result["images"] + result["held_out"]) == ("flat", 8)
    assert "only flat/train is read, because the other parts are for testing" in said(outcome)
    (tmp_path / "one").mkdir()
    shutil.copy(unlabelled / "00.png", tmp_path / "one")
    assert "one has one image" in run_cli("pretrain", "one", *QUICK).err


def test_weights_to_start_from_are_not_needed_to_go_on(run_cli: RunCli, unlabelled: Path, tmp_path: Path) -> None:
    """And what a killed process leaves beside the states is no hindrance."""

    def stopping(event: Event) -> None:
        if isinstance(event, PretrainingEpoch) and event.epoch == 3:
            raise Stopped

    assert run_cli("pretrain", unlabelled, *QUICK, "--name", "first").code == 0
    layer = {"data": {"name": str(unlabelled)}}
    with pytest.raises(Stopped):
        pretrain(layer, {"run": {**LAYERS["run"], "init_from": "first"}, "optim": LAYERS["optim"]}, emit=stopping)
    work = Pretraining.open(Path("experiments/pre"))
    work.stored.epochs = work.stored.epochs[:1]  # killed after the state, and before the file
    work.save()
    (work.states[0].parent / ".state-12345678.tmp.safetensors").write_text("half")
    (tmp_path / "experiments" / "first").rename(tmp_path / "elsewhere")
    (tmp_path / "photos").rename(tmp_path / "moved")
    told = list[Event]()
    result = resume_pretraining("pre", {"data": {"name": str(tmp_path / "moved")}}, emit=told.append)
    assert result.epochs == 3
    assert any(isinstance(event, Note) and event.text == "resuming pre after its last epoch" for event in told)
    work = Pretraining.open(work.path)
    assert [record.epoch for record in work.stored.epochs] == [1, 2, 3]
    assert work.config.data.name == str(tmp_path / "moved")
    assert [path.name for path in work.states[0].parent.iterdir()] == [work.states[0].name]


def test_weights_of_no_recipe_of_vit_train_with_the_usual_one(
    run_cli: RunCli, unlabelled: Path, image_folder: ImageFolder, tmp_path: Path
) -> None:
    """Those that were pretrained from other weights, or with a recipe of the user's."""
    image_folder(tmp_path / "few", {"a": 6, "b": 6})
    assert run_cli("pretrain", unlabelled, *QUICK, "--name", "first").code == 0
    assert run_cli("pretrain", unlabelled, "--epochs", "1", "--init-from", "first", "--name", "second").code == 0
    train = ("train", "few", "--epochs", "1", "--dry-run", "--json")
    settings = json.loads(run_cli(*train, "--init-from", "second").out)["settings"]
    assert settings["augment"]["crop_padding"] == {"value": 4, "source": "recipe small-images"}
    (tmp_path / "pre").mkdir()  # of the same name, in the current folder
    (tmp_path / "own.toml").write_text("[optim]\nlr = 0.005\n")
    assert run_cli("pretrain", unlabelled, *QUICK, "--recipe", "own.toml", "--name", "pre").code == 0
    (tmp_path / "own.toml").unlink()
    assert "with which the weights were pretrained" not in run_cli(*train, "--init-from", "pre").err
    assert "recipe: small-images" in run_cli(*train, "--init-from", "pre").err
    assert "did you mean 'pre'" in run_cli(*train, "--init-from", "prre").err


def test_a_search_may_start_from_the_weights(
    run_cli: RunCli, unlabelled: Path, image_folder: ImageFolder, tmp_path: Path
) -> None:
    image_folder(tmp_path / "few", {"a": 20, "b": 20})
    assert run_cli("pretrain", unlabelled, *QUICK, "--name", "pre").code == 0
    words = ("--init-from", "pre", "--trials", "2", "--epochs", "1", "--finalists", "1", "--seeds", "2")
    outcome = run_cli("tune", "few", *words, "--search", "optim.lr=0.001,0.01")
    assert outcome.code == 0, outcome.err


def test_processes_that_train_together_are_refused(
    run_cli: RunCli, unlabelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    assert "pretraining runs in one process" in run_cli("pretrain", unlabelled).err


def test_a_folder_without_images_is_refused(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    outcome = run_cli("pretrain", "empty")
    assert outcome.code == 1
    assert "empty has no images" in outcome.err


def test_python_pretrains_too(unlabelled: Path) -> None:
    result = vitcli.pretrain(str(unlabelled), LAYERS, epochs=1, mask_ratio=0.75, quiet=True)
    assert (result.epochs, result.mask_ratio) == (1, 0.75)
    assert repr(result).startswith("<PretrainResult experiments/pre: 1 epoch, loss ")
    assert result.weights.exists()
    with pytest.raises(UsageError, match="pretrain\\(\\) has no option 'mask_rtio'"):
        vitcli.pretrain(str(unlabelled), mask_rtio=0.5)
