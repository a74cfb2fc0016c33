"""``vit eval``: rows for all images, mistakes, views, and classes that the model and the data share."""

import csv
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import vitcli
from tests.conftest import TINY, Outcome
from vitcli.core.events import Event, Warned
from vitcli.core.runs import Run
from vitcli.engine.checkpoint import load_checkpoint, save_checkpoint
from vitcli.judging import results
from vitcli.judging.answers import collect
from vitcli.judging.judge import seen_as
from vitcli.judging.mistakes import sort_mistakes
from vitcli.workflows.evaluate import _maps

RunCli = Callable[..., Outcome]
CLASSES = {"cat": 12, "dog": 12, "=emu": 12}


@pytest.fixture(scope="module")
def photos(run_cli: RunCli, image_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos, and a run that was trained on them."""
    folder = tmp_path_factory.mktemp("judged")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("VIT_DATA_DIR", str(folder / "data"))
        image_folder(folder / "photos", CLASSES)
        outcome = run_cli(
            "train", "photos", *TINY, "--name", "run", "--test-fraction", "0.5", "--set", "augment.flip=0.5"
        )
    assert outcome.code == 0, outcome.err
    return folder


@pytest.fixture(autouse=True)
def _there(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    monkeypatch.setenv("VIT_DATA_DIR", str(photos / "data"))


def judged(run_cli: RunCli, *words: object) -> dict[str, Any]:
    outcome = run_cli("eval", *words, "--json")
    assert outcome.code == 0, outcome.err
    result: dict[str, Any] = json.loads(outcome.out)
    return result


def rows_of(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_are_those_of_predict_in_the_order_of_the_data_set(run_cli: RunCli) -> None:
    result = judged(run_cli)
    rows = rows_of(result["files"]["predictions"])
    assert len(rows) == result["metrics"]["images"] == 18
    names = [row["path"].removeprefix("'") for row in rows]
    assert names == sorted(names)
    outcome = run_cli("predict", *(Path("photos") / name for name in names), "--top-k", "3", "--json")
    for row, predicted in zip(rows, json.loads(outcome.out)["rows"], strict=True):
        assert row["prediction"].removeprefix("'") == predicted["classes"][0]
        assert row["truth"].removeprefix("'") == Path(predicted["path"]).parent.name
        shares = [float(row[f"probability_{place}"]) for place in (1, 2, 3)]
        assert shares == pytest.approx(predicted["probabilities"], abs=1e-6)
        assert float(row["margin"]) == pytest.approx(shares[0] - shares[1])
        of_truth = shares[int(row["rank"]) - 1]
        assert float(row["loss"]) == pytest.approx(-np.log(of_truth), rel=1e-4)
    right = np.mean([row["truth"] == row["prediction"] for row in rows])
    assert result["metrics"]["top1"] == pytest.approx(right)


def test_the_confusion_matrix_is_a_table_too(run_cli: RunCli) -> None:
    result = judged(run_cli)
    rows = rows_of(result["files"]["confusion"])
    assert sum(int(row["images"]) for row in rows) == 18
    assert {row["truth"] for row in rows} == {"cat", "dog", "'=emu"}  # a spreadsheet computes no class
    counts = {(row["truth"], row["prediction"]): int(row["images"]) for row in rows}
    names = ["'=emu", "cat", "dog"]
    assert counts == {(names[a], names[b]): number for a, b, number in result["metrics"]["confusion"]}


@pytest.mark.pictures
def test_pictures_show_mistakes_and_reliability(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, real = list[str](), ImageDraw.ImageDraw.text

    def text(draw: ImageDraw.ImageDraw, xy: Any, words: str, **options: Any) -> None:
        texts.append(words)
        real(draw, xy, words, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    files = judged(run_cli)["files"]
    mistakes, _, unsure = " ".join(texts).partition("least sure answers (smallest margin first); accuracy of ")
    assert "surest mistakes; accuracy of " in mistakes
    assert "predictions are right" not in mistakes, "they are all wrong"
    assert "predictions are right" in unsure
    for name in ("confusion", "reliability", "mistakes", "unsure"):
        with Image.open(files[f"{name} figure"]) as image:
            assert image.format == "PNG"


@pytest.mark.parametrize("link", [False, True])
def test_mistakes_are_sorted_by_true_and_predicted_class(run_cli: RunCli, tmp_path: Path, *, link: bool) -> None:
    folder = tmp_path / "wrong"
    result = judged(run_cli, "--mistakes", folder, *(["--link"] if link else []))
    wrong = [row for row in rows_of(result["files"]["predictions"]) if row["truth"] != row["prediction"]]
    assert len(wrong) == result["sorted_mistakes"] > 0
    found = sorted(path for path in folder.rglob("*") if not path.is_dir())
    expected = {f"{row['truth']}__{row['prediction']}".replace("'=", "") for row in wrong}
    assert {path.parent.name for path in found} == expected
    assert sorted(path.name.split("-", 2)[2] for path in found) == sorted(Path(row["path"]).name for row in wrong)
    assert all(path.is_symlink() == link for path in found)
    originals = {path.read_bytes() for path in Path("photos").rglob("*.*")}
    assert all(path.read_bytes() in originals for path in found)
    shown = run_cli("eval", "--mistakes", tmp_path / "again").out
    assert re.search(rf"mistakes +{len(wrong)} images?, sorted into {tmp_path / 'again'} *\n", shown)
    file = next(folder.rglob("*.png"))
    for taken in (file, file / "below"):
        assert "is a file" in run_cli("eval", "--mistakes", taken).err
    again = run_cli("eval", "--mistakes", folder)
    assert again.code == 1
    assert "is not empty" in again.err


def test_mistakes_of_a_data_set_without_files_become_pictures(
    run_cli: RunCli, trained_run: Path, tmp_path: Path, data_dir: Path
) -> None:
    words = ("--model", trained_run, "--data-dir", data_dir, "--mistakes", tmp_path / "wrong")
    count = judged(run_cli, *words)["sorted_mistakes"]
    pictures = list((tmp_path / "wrong").rglob("*.png"))
    assert len(pictures) == count > 0
    with Image.open(pictures[0]) as image:
        assert (image.size, image.mode) == ((8, 8), "L")


def test_maps_explain_the_answer_that_is_beside_them(trained_run: Path, explained: list[tuple[int, int]]) -> None:
    """The answer of several models, or of several views, may be another one than that of the model and the image."""
    pixels = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
    maps = _maps(vitcli.load_model(trained_run), pixels, ["3", "1", "3"])
    assert [target for target, _ in explained] == [3, 1, 3]
    assert [each.target for each in maps] == ["3", "1", "3"]


def test_a_model_that_always_gives_one_answer_is_told(
    run_cli: RunCli, trained_run: Path, data_dir: Path, tmp_path: Path
) -> None:
    kept = load_checkpoint(Run(trained_run).best_checkpoint)
    bias = torch.zeros(10).index_fill_(0, torch.tensor([7]), 1e3)
    is_bias = {name: name.startswith("head.") and each.ndim == 1 for name, each in kept.weights.items()}
    weights = {name: bias if is_bias[name] else each for name, each in kept.weights.items()}
    save_checkpoint(tmp_path / "seven.safetensors", replace(kept, weights=weights))
    said = "100.0 % of the images get one and the same class, 7, so the model has learnt little"
    assert said in run_cli("eval", "--data-dir", data_dir, "--model", tmp_path / "seven.safetensors").err


def test_views_are_averaged_counted_and_said(run_cli: RunCli, trained_run: Path, data_dir: Path) -> None:
    plain, flipped = judged(run_cli), judged(run_cli, "--tta", "flip")
    assert (plain["views"], flipped["views"]) == ("none", "flip")
    assert flipped["files"]["metrics"].endswith("test-flip.json")  # beside the usual result
    outcome = run_cli("eval", "--tta", "five")
    assert "18 images, 5 views of each (with its corners)" in outcome.out
    warning = "was not trained on mirrored images"
    assert warning not in run_cli("eval", "--tta", "flip").err
    assert warning in run_cli("eval", "--tta", "flip", "--model", trained_run, "--data-dir", data_dir).err


def test_an_evaluation_that_cannot_be_stored_leaves_the_earlier_one_whole(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [Path(judged(run_cli)["files"][name]) for name in ("metrics", "predictions", "confusion")]
    before = [path.read_bytes() for path in files]

    def full(path: Path, *_given: object, **_options: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(results, "write_json", full)
    Image.new("L", (12, 12), 9).save("photos/cat/new.png")
    try:
        outcome = run_cli("eval", "--split", "test")
    finally:
        Path("photos/cat/new.png").unlink()
    assert outcome.code == 0, outcome.err
    assert "the result could not be stored" in outcome.err
    assert [path.read_bytes() for path in files] == before
    assert not list(files[0].parent.glob(".*"))


def test_calibration_of_single_views_is_told_beside_several(run_cli: RunCli) -> None:
    checkpoint = Run(Path("experiments/run")).best_checkpoint
    kept = checkpoint.read_bytes()
    try:
        assert run_cli("eval", "--calibrate").code == 0
        outcome = run_cli("eval", "--tta", "five")
        assert "the temperature was fitted on single views" in " ".join(outcome.err.split())
        assert "fitted on single views" not in run_cli("eval").err
    finally:
        checkpoint.write_bytes(kept)


def test_the_probability_of_views_is_their_mean(run_cli: RunCli, tmp_path: Path) -> None:
    """Two images, each the mirror image of the other, must get the same."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12), dtype=np.uint8)
    for name, array in (("cat", pixels), ("dog", pixels[:, ::-1])):
        path = tmp_path / "pair" / name / "one.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(array)).save(path)
    one, two = rows_of(judged(run_cli, tmp_path / "pair", "--tta", "flip")["files"]["predictions"])
    assert float(one["probability"]) == pytest.approx(float(two["probability"]), abs=1e-7)
    one, two = rows_of(judged(run_cli, tmp_path / "pair")["files"]["predictions"])
    assert float(one["probability"]) != pytest.approx(float(two["probability"]), abs=1e-7)


def test_corners_have_the_size_of_the_whole() -> None:
    images = torch.arange(2 * 16 * 24.0).view(1, 2, 16, 24)
    whole, *corners = seen_as(images, "five")
    assert whole is images
    assert [each.shape for each in corners] == [images.shape] * 4
    means = [each.mean().item() for each in corners]
    assert means == sorted(means)  # values rise to the right, and faster downwards


def test_only_shared_classes_are_judged_if_that_is_asked_for(
    run_cli: RunCli, image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    zoo = image_folder(tmp_path / "zoo", {"cat": 5, "dog": 6, "gnu": 7})
    refused = run_cli("eval", zoo)
    assert refused.code == 1
    assert "--classes shared" in refused.err
    outcome = run_cli("eval", zoo, "--classes", "shared", "--json")
    assert "classes: the 2 that the model and the data share; left out: 1 of the data, 1 of the model" in outcome.err
    result = json.loads(outcome.out)
    assert (result["metrics"]["images"], result["left_out"]) == (11, 7)
    assert [(each["name"], each["images"]) for each in result["metrics"]["classes"]] == [("cat", 5), ("dog", 6)]
    rows = rows_of(result["files"]["predictions"])
    assert all(float(row["probability_1"]) + float(row["probability_2"]) == pytest.approx(1) for row in rows)
    strange = image_folder(tmp_path / "strange", {"gnu": 7, "yak": 3})
    assert "share no class" in run_cli("eval", strange, "--classes", "shared").err


def test_a_mistake_whose_file_is_gone_is_told_and_the_others_are_sorted(tmp_path: Path) -> None:
    logits = torch.eye(3)[[1, 2, 0]]
    answers = collect([(logits, torch.tensor([0, 1, 2]))], ("ant", "bee", "cat"))
    files = [tmp_path / name for name in ("here.png", "gone.png", f"{'x' * 250}.png")]
    for file in (files[0], files[2]):
        file.write_bytes(b"")
    told: list[Event] = []
    folder = tmp_path / "wrong"
    count = sort_mistakes(answers, files, folder, links=False, save=lambda *_: None, emit=told.append)
    assert (count, len(list(folder.rglob("*.png")))) == (1, 1)
    (warning,) = [event.text for event in told if isinstance(event, Warned)]
    assert warning.startswith(f"2 mistakes could not be sorted into {folder}")
    assert "gone.png" in warning


@pytest.mark.parametrize("choice", [{"tta": "flop"}, {"classes": "sharde"}])
def test_a_choice_that_does_not_exist_is_refused_in_python_too(choice: dict[str, Any]) -> None:
    with pytest.raises(vitcli.VitError, match=rf"{next(iter(choice))} = .* is not one of .*\n.*did you mean"):
        vitcli.evaluate(**choice, quiet=True)


@pytest.mark.parametrize(
    ("function", "words", "said"),
    [
        (vitcli.evaluate, {"batch_size": 0}, "batch_size = 0 is less than 1"),
        (vitcli.calibrate, {"batch_size": 0}, "batch_size = 0 is less than 1"),
        (vitcli.report, {"worst": -1}, "worst = -1 is not in 0..1000"),
        (vitcli.predict, {"images": []}, "no images are given"),
        (vitcli.predict, {"images": ["a.png"], "sets": 0.9, "top_k": 2}, "sets=0.9 chooses the number of classes"),
    ],
)
def test_numbers_that_are_too_small_are_refused_in_python_too(
    function: Callable[..., Any], words: dict[str, int], said: str
) -> None:
    with pytest.raises(vitcli.VitError, match=said):
        function(**words, quiet=True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("eval", "--link"), "--link belongs to --mistakes"),
        (("predict", "--submission", "a.csv", "--coverage", "0.9"), "a submission does not take --coverage"),
        (("predict", "--submission", "a.csv", "--sets", "0.9", "-k", "2"), "does not take --sets, --top-k"),
    ],
)
def test_an_option_that_would_change_nothing_is_refused(run_cli: RunCli, words: tuple[str, ...], said: str) -> None:
    outcome = run_cli(*words)
    assert outcome.code == 2
    assert said in " ".join(outcome.err.replace("│", " ").split())
