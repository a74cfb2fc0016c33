"""What a user gets wrong: exit code 1 or 2, a message that names the value, a hint, and nothing written."""

import errno
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.conftest import naming
from vitcli.core.errors import VitError
from vitcli.core.runs import Run

RunCli = Callable[..., Any]
Scene = dict[str, str]


def draw(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), 128).save(path)


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory, trained_run: Path, digit: Path, shapes: Path) -> Scene:
    """Paths to all that is wrong, by the name that the cases below give it."""
    root = tmp_path_factory.mktemp("scene")
    (root / "empty").mkdir()
    (root / "file").write_text("text")
    for name in ("flat/a.png", "one-image/cat/a.png", "two-images/cat/a.png", "two-images/dog/a.png"):
        draw(root / name)
    for number in range(4):
        draw(root / "one-class" / "cat" / f"{number}.png")
        for name in ("with-text", "with-truncated", "with-an-empty-class"):
            draw(root / name / "cat" / f"{number}.png")
            draw(root / name / "dog" / f"{number}.png")
    (root / "with-an-empty-class" / "emu").mkdir()
    (root / "with-text" / "dog" / "0.png").write_text("this is text")
    noise = root / "with-truncated" / "dog" / "0.jpg"
    Image.effect_noise((64, 64), 50).save(noise)
    noise.write_bytes(noise.read_bytes()[:1500])
    (root / "broken.toml").write_text("[optim\nlr = ")
    (root / "negative.toml").write_text("[optim]\nlr = -1\n")
    (root / "text.toml").write_text("[data]\nval_fraction = 'a'\n")
    (root / "no-section.toml").write_text("learning_rate = 1\n")
    (root / "odd-key.toml").write_text("[optim]\nlearnrate = 1\n")
    (root / "odd-section.toml").write_text("[optimm]\nlr = 1\n")
    checkpoint = Run(trained_run).best_checkpoint.read_bytes()
    (root / "truncated.safetensors").write_bytes(checkpoint[: len(checkpoint) // 2])
    (root / "stub.safetensors").write_bytes(checkpoint[:5])
    (root / "text.safetensors").write_text("this is text, not weights")
    torch.save({"weights": torch.zeros(3)}, root / "pickled.safetensors")
    shutil.copytree(trained_run, root / "runs" / "without-weights", ignore=shutil.ignore_patterns("*.safetensors"))
    broken = root / "runs" / "broken"
    broken.mkdir()
    (broken / "run.json").write_text("{")
    paths = {path.name: str(path) for path in root.iterdir()} | {
        path.name: str(path) for path in (root / "runs").iterdir()
    }
    return paths | {"absent": str(root / "absent"), "run": str(trained_run), "digit": str(digit), "shapes": str(shapes)}


CASES = [
    # words, what the message names, what the hint says
    pytest.param("train {absent}", "{absent}", "vit datasets", id="a folder that is missing"),
    pytest.param("train {empty}", "{empty} is empty", "subfolder", id="an empty folder"),
    pytest.param("train {file}", "{file} is not a folder", "vit datasets", id="a file for a folder"),
    pytest.param(
        "train {flat}",
        "{flat} has no class subfolders",
        "`vit pretrain` learns from images without",
        id="a folder without subfolders",
    ),
    pytest.param("train {one-image}", "'cat'", "at least two", id="one image"),
    pytest.param("train {two-images}", "no class has two different images", "add images", id="one image per class"),
    pytest.param("train {one-class}", "one class only: 'cat'", "at least two", id="one class"),
    pytest.param("train {with-an-empty-class}", "'emu' has no images", "remove", id="a class without images"),
    pytest.param("train {with-text}", "{with-text}/dog/0.png", "", id="text among the images"),
    pytest.param("train {with-truncated}", "{with-truncated}/dog/0.jpg", "", id="half an image among the images"),
    pytest.param("train mnits", "'mnits'", "'mnist'", id="an unknown data set"),
    pytest.param("download mnits", "'mnits'", "'mnist'", id="an unknown data set to download"),
    pytest.param("eval mnits --model {run}", "'mnits'", "'mnist'", id="an unknown data set to evaluate on"),
    pytest.param("train digits --recipe digts", "'digts'", "'digits'", id="an unknown recipe"),
    pytest.param("train digits --model vit-nano-path2", "'vit-nano-path2'", "vit-nano-patch2", id="an unknown model"),
    pytest.param("train digits --set optim.lrr=1", "'optim.lrr'", "'optim.lr'", id="an unknown key"),
    pytest.param("train digits --set optm.lr=1", "'optm'", "'optim'", id="an unknown section"),
    pytest.param("train digits --set lr=1", "'lr=1'", "--set optim.lr=1", id="an assignment without a section"),
    pytest.param("train digits --set optim.epochs=few", "'few'", "", id="a value of the wrong kind"),
    pytest.param("train digits --opt adamv", "'adamv'", "'adam", id="an unknown optimiser"),
    pytest.param("train digits --sched cosin", "'cosin'", "'cosine'", id="an unknown schedule"),
    pytest.param("train digits --config {absent}", "{absent}", "", id="a config file that is missing"),
    pytest.param("train digits --config {broken.toml}", "{broken.toml}", "", id="a config file that is not TOML"),
    pytest.param("train digits --config {empty}", "{empty}", "", id="a folder for a config file"),
    pytest.param("train digits --config {odd-key.toml}", "'optim.learnrate'", "", id="an unknown key in a file"),
    pytest.param("train digits --config {odd-section.toml}", "'optimm'", "'optim'", id="an unknown section in a file"),
    pytest.param(
        "train digits --config {negative.toml}", "{negative.toml}: optim.lr = -1", "optim.lr = 0.01", id="a bad file"
    ),
    pytest.param(
        "train digits --config {text.toml}",
        "{text.toml}: data.val_fraction = 'a' is not a number",
        "for example data.val_fraction = 0.1",
        id="text for a number in a file",
    ),
    pytest.param(
        "train digits --config {no-section.toml}", "'learning_rate'", "'optim.lr'", id="a key without a section"
    ),
    pytest.param("train ~no-such-user/photos", "~no-such-user/photos is not a folder", "", id="the home of nobody"),
    pytest.param("train digits --set optim.lr=x", "optim.lr = 'x' is not a number", "--set optim.lr=0.01", id="text"),
    pytest.param("preview digits --mixup -3", "--mixup -3 is negative", "--mixup 0.1", id="a preview"),
    pytest.param("train digits --lr -0.1", "--lr -0.1", "--lr 0.01", id="a negative learning rate"),
    pytest.param("train digits --lr nan", "--lr nan", "--lr 0.01", id="a learning rate that is not a number"),
    pytest.param("train digits --batch-size 0", "--batch-size 0", "", id="a batch of nothing"),
    pytest.param("train digits --epochs 0", "--epochs 0", "--epochs 20", id="no epochs"),
    pytest.param("train digits --val-fraction 1.5", "--val-fraction 1.5", "", id="more held out than there is"),
    pytest.param("train digits --seed -1", "--seed -1", "", id="a negative seed"),
    pytest.param("train digits --fold 7", "--fold 7 is one of several", "--folds 7 --fold 7 trains", id="no folds"),
    pytest.param(
        "train digits --fold 7 --folds 3", "not one of 3", "--folds 3 --fold 3 trains the last", id="few folds"
    ),
    pytest.param(
        "train digits --model vit-nano-patch4 --image-size 9", "image size 9", "--image-size 8", id="indivisible pixels"
    ),
    pytest.param(
        "train digits --model vit-nano-patch4 --image-size 8x15", "8x15", "--image-size 8x16", id="indivisible width"
    ),
    pytest.param("train digits --image-size wide", "'wide'", "", id="an image size that is not a size"),
    pytest.param(
        "train digits --set model.width=50 --set model.num_heads=4",
        "width 50",
        "model.width=52",
        id="indivisible heads",
    ),
    pytest.param("train digits --set model.depth=0", "depth = 0", "", id="a model without blocks"),
    pytest.param("train digits --set model.num_classes=3", "num_classes = 3", "", id="other classes than the data's"),
    pytest.param("train digits --device gpu", "'gpu'", "cuda", id="an unknown device"),
    pytest.param("predict {digit} --model {run} --device cdua", "'cdua'", "'cuda'", id="a misspelt device"),
    pytest.param(
        "predict {digit} --model {run} --device cuda",
        "cuda",
        "--device cpu",
        id="CUDA where there is none",
        marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one"),
    ),
    pytest.param("predict {digit} --model {run} --device cuda:99", "cuda", "", id="a GPU too many"),
    pytest.param(
        "eval --model google/vit-base", "google/vit-base", "hf:google/vit-base", id="a repository without hf:"
    ),
    pytest.param("eval --model deit_tiny_patch16_224", "architecture of timm", "hf:timm/deit_tiny", id="timm's name"),
    pytest.param("eval --model nobody", "'nobody'", "vit runs", id="a run that does not exist"),
    pytest.param("eval", "no finished run in experiments", "vit train", id="no run at all"),
    pytest.param("predict {digit}", "no finished run", "vit train", id="nothing to predict with"),
    pytest.param("train digits --init-from nobody", "'nobody'", "", id="weights of a run that does not exist"),
    pytest.param("eval --model {without-weights}", "without-weights", "vit runs", id="a run without weights"),
    pytest.param("eval --model {broken}", "run.json is not a file of vit, or is broken", "", id="a run that is broken"),
    pytest.param("eval --model {absent}.safetensors", "{absent}.safetensors", "", id="a checkpoint that is missing"),
    pytest.param(
        "predict {digit} --model {truncated.safetensors}", "{truncated.safetensors}", "", id="half a checkpoint"
    ),
    pytest.param(
        "predict {digit} --model {stub.safetensors}", "{stub.safetensors}", "", id="five bytes of a checkpoint"
    ),
    pytest.param("eval --model {text.safetensors}", "{text.safetensors}", "", id="text for a checkpoint"),
    pytest.param("eval --model {pickled.safetensors}", "{pickled.safetensors}", "", id="a pickle for a checkpoint"),
    pytest.param("predict {absent} --model {run}", "{absent}", "", id="an image that is missing"),
    pytest.param("predict {empty} --model {run}", "{empty} has no images", "", id="a folder without images"),
    pytest.param("predict {empty}/*.png --model {run}", "{empty}/*.png", "", id="a pattern that fits nothing"),
    pytest.param("attention-map {file} --model {run}", "{file}", "", id="a map of what is not an image"),
    pytest.param("attention-map {absent} --model {run}", "{absent}", "", id="a map of what is missing"),
    pytest.param(
        "attention-map {digit} --model {run} --method rolout", "'rolout'", "'rollout'", id="an unknown method"
    ),
    pytest.param("eval {shapes} --model {run}", "'left'", "the model knows 0, 1", id="other classes than the model's"),
    pytest.param("train digits --output-dir {file}/experiments", "{file}", "", id="runs below a file"),
    pytest.param("train digits --data-dir {file}/data", "{file}", "", id="data below a file"),
    pytest.param("predict {digit} --model {run} --csv {file}/rows.csv", "{file}", "", id="a CSV file below a file"),
    pytest.param("attention-map {digit} --model {run} --output {file}/maps", "{file}", "", id="maps below a file"),
    pytest.param("train digits --name {empty}", "{empty}", "--output-dir", id="a name that is a path"),
    pytest.param("train digits --name ../outside", "../outside", "--output-dir", id="a name that leads outside"),
]


WRONG_ANYWHERE = {
    # the cases above that are wrong on any machine: exit code 2
    *("an unknown recipe", "an unknown model", "an unknown key", "an unknown section", "an unknown optimiser"),
    *("an unknown schedule", "an unknown method", "an unknown device", "a misspelt device"),
    *("an assignment without a section", "a value of the wrong kind", "text", "an image size that is not a size"),
    *("an unknown key in a file", "an unknown section in a file", "a key without a section", "a bad file"),
    *("text for a number in a file", "a preview", "a negative learning rate", "a learning rate that is not a number"),
    *("a batch of nothing", "no epochs", "more held out than there is", "a negative seed", "no folds", "few folds"),
    *("indivisible pixels", "indivisible width", "indivisible heads", "a model without blocks"),
    *("a name that is a path", "a name that leads outside"),
}


WORDS = [
    # words that cannot be read as a command: the whole message, what the hint says
    ("train digits --epochs ten", "--epochs 'ten' is not a whole number", "for example --epochs 20"),
    ("train digits --seed 1.5", "--seed '1.5' is not a whole number", "for example --seed 42"),
    ("train digits --val-fraction a", "--val-fraction 'a' is not a number", "for example --val-fraction 0.1"),
    ("eval --batch-size 0", "--batch-size 0 is not a whole number of 1 or more", "for example --batch-size 256"),
    ("attention-map --grid 0", "--grid 0 is not a whole number of 1 or more", "for example --grid 8"),
    ("eval --split tst", "--split 'tst' is not one of auto, train, val, test", "for example --split test"),
    (
        "train digits --learning-rate 3",
        "vit train has no option --learning-rate",
        "did you mean --lr? `vit train digits --lr 3`",
    ),
    (
        "train digits --lerning-rate 3",
        "vit train has no option --lerning-rate",
        "did you mean --lr? `vit train digits --lr 3`",
    ),
    (
        "train digits --decay 3",
        "vit train has no option --decay",
        "did you mean --weight-decay? `vit train digits --weight-decay 3`",
    ),
    (
        "train 'my photos' --epocs=3",
        "vit train has no option --epocs",
        "did you mean --epochs? `vit train 'my photos' --epochs=3`",
    ),
    (
        "export x --modle y --json",
        "vit export has no option --modle",
        "did you mean --model? `vit export --model y --json`",
    ),
    (
        "eval --datset x --split val",
        "vit eval has no option --datset",
        "dataset is given without an option: `vit eval x --split val`",
    ),
    ("bench a --model=b", "vit bench has no option --model", "model is given without an option: `vit bench b`"),
    (
        "predict --image a.png b.png",
        "vit predict has no option --image",
        "images is given without an option: `vit predict a.png b.png`",
    ),
    (
        "runs tag a --remvoe b",
        "vit runs tag has no option --remvoe",
        "did you mean --remove? `vit runs tag a --remove b`",
    ),
    (
        "train digits --patch-size 8 --epochs 2",
        "vit train has no option --patch-size",
        "did you mean --set model.patch_size=VALUE?",
    ),
    (
        "train --min_lr=0.1",
        "vit train has no option --min_lr",
        "did you mean --set optim.min_lr=VALUE?",
    ),
    (
        "train --optimizer adamw",
        "vit train has no option --optimizer",
        "did you mean --opt? `vit train --opt adamw`",
    ),
    (
        "preview digits --name foo",
        "vit preview has no option --name",
        "`vit preview --help` says what is possible",
    ),
    ("compare a b", "there is no command 'compare'", "did you mean `vit runs compare a b`?"),
    ("train digits --wasp", "vit train has no option --wasp", "`vit train --help` says what is possible"),
    ("train digits --epochs", "--epochs needs a value", "`vit train --help` says what is possible"),
    ("evaluate digits", "there is no command 'evaluate'", "did you mean `vit eval digits`?"),
    ("ls", "there is no command 'ls'", "did you mean `vit runs`?"),
    ("list models", "there is no command 'list'", "did you mean `vit models`?"),
    ("test --split test", "there is no command 'test'", "did you mean `vit eval --split test`?"),
    ("rm a", "there is no command 'rm'", "did you mean `vit runs delete a`?"),
    ("runs remove a", "there is no command 'remove'", "did you mean `vit runs delete a`?"),
    ("trian digits", "there is no command 'trian'", "did you mean `vit train digits`?"),
    ("wasp", "there is no command 'wasp'", "`vit --help` says what is possible"),
    ("models wasp", "too many arguments for vit models: wasp", "`vit models --help` says what is possible"),
]


def test_words_that_are_no_command_are_named_in_plain_words(run_cli: RunCli) -> None:
    for words, message, hint in WORDS:
        with naming(words):
            outcome = run_cli(*shlex.split(words))
            assert outcome.code == 2
            assert outcome.out == "" or "--json" in words
            assert outcome.err == f"error: {message}\nhint: {hint}\n"


EXITS = [
    # lines that are wrong on any machine
    (2, "train digits --lr -1"),
    (2, "train digits --set optim.epochs=0"),
    (2, "train digits --folds 3 --fold 9"),
    (2, "train digits --train-only head --freeze-backbone"),
    (2, "train digits --head mlp"),
    (2, "train digits --batch-size many"),
    (2, "train digits --recipe cifar10 --from-run {run}"),
    (2, "tune digits --trials 1"),
    (2, "tune digits --search optim.lr=high"),
    (2, "tune digits --search optim.lrr=1,2"),
    (2, "eval --model {run} --classes foo"),
    (2, "eval --model {run} --tta seven"),
    (2, "eval --model {run} --link"),
    (2, "eval --model {run} --device cpuu"),
    (2, "report {run} --worst -1"),
    (2, "report {run} {without-weights} --card"),
    (2, "predict {digit} --model {run} --coverage 1.5"),
    (2, "predict {digit} --model {run} --sets 2"),
    (2, "predict {digit} --model {run} --min-confidence 7"),
    (2, "predict {digit} --model {run} --sets 0.9 --top-k 2"),
    (2, "attention-map {digit} --model {run} --method rolout"),
    (2, "attention-map {digit} --model {run} --query 1"),
    (2, "attention-map {digit} --model {run} --query 1,1 --score"),
    (2, "attention-map {digit} --model {run} --output map.gif"),
    (2, "check-labels digits --similarity 2"),
    (2, "check-labels digits --pictures 0"),
    (2, "check-labels"),
    (2, "bench vit-nano-patch4 --precision fp8"),
    (2, "bench vit-nano-patch4 --batch-size 0"),
    (2, "bench vit-nano-patch4 --against tim"),
    (2, "export {run} --format onnnx"),
    (2, "runs --sort size"),
    (2, "runs --filter digits"),
    (2, "runs best --metric speed"),
    (2, "runs compare {run}"),
    (2, "runs tag {run} no/tag"),
    (2, "download kaggle:a/b/c"),
    # lines that are wrong here
    (1, "train absent/folder"),
    (1, "train digits --config absent.toml"),
    (1, "train digits --init-from nobody"),
    (1, "train digits --set model.num_classes=3"),
    (1, "train digits --train-only last:99"),
    (1, "train digits --class-weights absent.json"),
    (1, "train {run}"),
    (1, "tune digits --space absent.toml"),
    (1, "eval --model nobody"),
    (1, "eval nowhere --model {run}"),
    (1, "eval {shapes} --model {run}"),
    (1, "report nobody"),
    (1, "report {run} --output {empty}"),
    (1, "predict {digit} --model {run} --coverage 0.9"),
    (1, "predict {absent} --model {run}"),
    (1, "attention-map {digit} --model {run} --layers 99"),
    (1, "attention-map {digit} --model {run} --class dog"),
    (1, "attention-map {digit} --model {run} --query 99,99"),
    (1, "check-labels nowhere"),
    (1, "check-labels digits --model {run-2}"),
    (1, "bench nobody"),
    (1, "export nobody"),
    (1, "runs show nobody"),
    (1, "runs best --data nowhere"),
    (1, "runs compare {run} nobody"),
    (1, "runs tag {run} absent --remove"),
    (1, "runs delete nobody"),
    (1, "runs rename nobody somebody"),
    (1, "download nowhere"),
]


@pytest.mark.parametrize("code", [1, 2])
def test_the_exit_code_says_whether_the_words_or_the_world_are_wrong(
    run_cli: RunCli, scene: Scene, tmp_path: Path, code: int
) -> None:
    places = scene | {"run-2": str(Path(scene["run"]).parent)}
    for words in (words for expected, words in EXITS if expected == code):
        with naming(words):
            outcome = run_cli(*filled(words, places).split(), "--json")
            assert outcome.code == code, outcome.err
            assert (json.loads(outcome.out)["error"]["code"] == "usage") == (code == 2)
            assert listing(tmp_path) == {}


def test_the_hint_of_last_resort_names_the_command(run_cli: RunCli) -> None:
    assert "hint: `vit train --help` says what is possible" in run_cli("train", "--image-size", "0").err


def test_hints_begin_with_the_words_that_started_the_program(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_RUN_RECURSION_DEPTH", "1")
    assert "hint: `uv run vit train --help` says" in run_cli("train", "--epochs").err
    outcome = run_cli("eval")
    assert "uv run vit train" in outcome.err
    assert "of vit" not in outcome.err.replace("uv run vit", "")


def listing(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def mistake(run_cli: RunCli, scene: Scene, tiny: tuple[str, ...]) -> Callable[[str], Any]:
    """Type a case's words; a model that trains at all is a tiny one."""

    def type_in(words: str) -> Any:
        command, *rest = filled(words, scene).split()
        small = tiny[2:] if command == "train" else ()
        return run_cli(command, *small, *rest)

    return type_in


def filled(text: str, scene: Scene) -> str:
    for key, value in scene.items():
        text = text.replace(f"{{{key}}}", value)
    return text


@pytest.mark.parametrize(("words", "named", "hint"), CASES)
def test_a_mistake_is_named_with_a_hint_and_leaves_nothing(
    mistake: Callable[[str], Any],
    scene: Scene,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    words: str,
    named: str,
    hint: str,
) -> None:
    before = listing(Path(scene["run"]))
    outcome = mistake(words)
    assert outcome.code == (2 if request.node.callspec.id in WRONG_ANYWHERE else 1)
    assert outcome.out == ""
    message, _, advice = outcome.err.partition("hint: ")
    assert advice.strip(), "there is no hint"
    assert hint in advice
    assert "error: " in message
    assert filled(named, scene) in message
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "experiments").exists()
    assert listing(tmp_path) == {}
    assert listing(Path(scene["run"])) == before


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_an_output_folder_that_cannot_be_written_is_named(run_cli: RunCli, shapes: Path, tiny: tuple[str, ...]) -> None:
    outcome = run_cli("train", shapes, *tiny, "--output-dir", "/proc/vitcli")
    assert outcome.code == 1
    assert "/proc/vitcli" in outcome.err
    assert "hint:" in outcome.err


def fill_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on there is no room for anything below a folder."""
    real_sync, real_usage = os.fsync, shutil.disk_usage

    def sync(handle: int) -> None:
        if Path(f"/proc/self/fd/{handle}").resolve().is_relative_to(folder):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real_sync(handle)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(
        shutil,
        "disk_usage",
        lambda at: real_usage(at)._replace(free=0) if Path(at).is_relative_to(folder) else real_usage(at),
    )


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_full_disk_is_named_with_what_to_do(
    run_cli: RunCli, shapes: Path, tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk(tmp_path / "runs", monkeypatch)
    outcome = run_cli("train", shapes, *tiny, "--output-dir", tmp_path / "runs", "--name", "one")
    assert outcome.code == 1
    assert f"error: the disk of {tmp_path / 'runs' / 'one'} is full: No space left on device" in outcome.err
    assert "hint: make room there, or name another folder: --output-dir" in outcome.err


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_training_goes_on_in_memory_where_the_data_folder_is_full(
    run_cli: RunCli,
    image_folder: Callable[..., Path],
    tiny: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    photos = image_folder(tmp_path / "photos", {"left": 10, "right": 10})
    (tmp_path / "data").mkdir()
    fill_disk(tmp_path / "data", monkeypatch)
    outcome = run_cli("train", photos, *tiny, "--data-dir", tmp_path / "data", "--name", "one")
    assert outcome.code == 0, outcome.err
    assert "warning: the facts about photos cannot be stored: the disk of" in outcome.err
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file()]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_output_folder_is_named(
    run_cli: RunCli, shapes: Path, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    outcome = run_cli("train", shapes, *tiny, "--output-dir", tmp_path / "locked")
    assert outcome.code == 1
    assert "locked" in outcome.err


def test_a_misspelt_command_or_option_comes_with_the_right_one(run_cli: RunCli) -> None:
    for words, advice in [
        ("trian", "`vit train`"),
        ("train --epoch 3", "--epochs"),
        ("predict a.png --topk 3", "--top-k"),
        ("attention-map a.png --metod raw", "--method"),
    ]:
        with naming(words):
            outcome = run_cli(*words.split())
            assert outcome.code == 2
            assert advice in outcome.err
            assert outcome.out == ""


def test_what_is_no_command_line_is_a_usage_error(run_cli: RunCli) -> None:
    for words, named in [
        ("train --epochs many", "--epochs"),
        ("train digits --lr", "--lr"),
        ("train digits cifar10", "cifar10"),
        ("eval --split tset", "tset"),
        ("eval --batch-size 0", "--batch-size"),
        ("predict", "IMAGE"),
        ("predict a.png --top-k 0", "--top-k"),
        ("attention-map a.png --head-fusion median", "median"),
    ]:
        with naming(words):
            outcome = run_cli(*words.split())
            assert outcome.code == 2
            assert named.lower() in outcome.err.lower()
            assert outcome.out == ""


def test_a_pattern_of_folders_without_images_is_a_mistake_too(
    run_cli: RunCli, trained_run: Path, tmp_path: Path
) -> None:
    """Each such folder by itself is one; nothing predicted must not look like success."""
    (tmp_path / "empty-1").mkdir()
    outcome = run_cli("predict", "empty-*", "--model", trained_run)
    assert outcome.code == 1
    assert "empty-" in outcome.err


def test_debugging_shows_the_error_itself(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIT_DEBUG", "1")
    with pytest.raises(VitError, match="absent"):
        run_cli("train", "--config", "absent.toml")
    monkeypatch.setenv("VIT_DEBUG", "0")
    assert run_cli("train", "--config", "absent.toml").code == 1


@pytest.mark.parametrize("debugging", ["0", "1"])
def test_a_traceback_is_seen_when_debugging_only(debugging: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vitcli", "train", "--config", "absent.toml"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "VIT_DEBUG": debugging},
    )
    assert done.returncode == 1
    assert "error: no such config file: absent.toml" in done.stderr
    assert ("Traceback" in done.stderr) is (debugging == "1")
