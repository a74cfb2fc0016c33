"""The whole command: images with wrong labels, copies and a stranger go in, and come out as findings and a page."""

import base64
import csv
import json
import os
import re
import shlex
import shutil
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import vitcli
from tests.builders.runs import TINY, Listener
from tests.conftest import Outcome
from vitcli.core.config import DataConfig
from vitcli.core.errors import DataError, FileError, ModelError, RunError, UsageError
from vitcli.core.events import Note, Warned, ignore
from vitcli.core.runs import Run
from vitcli.data.dataset import open_dataset
from vitcli.figures.label_page import LabelTable
from vitcli.judging.label_findings import Finding
from vitcli.judging.label_report import not_kept
from vitcli.workflows.check_labels import LabelCheck, check_labels
from vitcli.workflows.train import train

CLASSES = ("=zero", "<b>one", "two")


def save(path: Path, pixels: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8)).save(path)


def draw(folder: Path, *, split: str = "", count: int = 40, seed: int = 0) -> None:
    """Draw three classes of 8 x 8 pixels: a bright row at another height, and noise."""
    random = np.random.default_rng(seed)
    for number, name in enumerate(CLASSES):
        for at in range(count):
            pixels = random.normal(60, 18, (8, 8))
            pixels[2 * number + 1 : 2 * number + 3] += 120
            save(folder / split / name / f"{seed}-{at:03d}.png", pixels)


def move(folder: Path, name: str, wrong: str) -> str:
    """Give an image another label, and return its new name."""
    target = folder / Path(name).parent.with_name(wrong) / f"wrong-{Path(name).name}"
    (folder / name).rename(target)
    return target.relative_to(folder).as_posix()


@pytest.fixture
def spoilt(tmp_path: Path) -> Path:
    """A folder with a wrong label in each split, a near-copy of a training image among those for testing, a stranger,
    and a pair of near-copies with different labels."""
    folder = tmp_path / "rows"
    draw(folder, split="train")
    draw(folder, split="test", count=12, seed=1)
    move(folder, "train/two/0-007.png", "=zero")
    move(folder, "test/<b>one/1-003.png", "two")
    copies = {
        "train/two/0-001.png": "test/two/copy.png",
        "test/=zero/1-002.png": "test/<b>one/copy.png",
    }
    for original, copy in copies.items():
        pixels = np.array(Image.open(folder / original))
        pixels[0, 0] += 3
        save(folder / copy, pixels)
    save(folder / "train/two/stranger.png", np.indices((8, 8)).sum(0) % 2 * 255)
    return folder


def of_kind(result: LabelCheck, kind: str) -> dict[str, Finding]:
    return {row.path: row for row in result.findings if row.kind == kind}


def rows_of_page(page: Path) -> dict[str, Any]:
    packed = re.findall(r'id="rows">([^<]*)<', page.read_text(encoding="utf-8"))[0]
    content: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return content


def table_from(page: Path, path: Path, *, dropped: str = "") -> None:
    """Write the table that the page makes if one image is dropped; a test of the page holds the page to this."""
    rows, text = rows_of_page(page), page.read_text(encoding="utf-8")
    facts = json.loads(re.findall(r'id="facts">(.*)</script>', text)[0])
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "label", *(["split"] if facts["hasSplits"] else [])])
        for at, (name, label) in enumerate(zip(rows["names"], rows["labels"], strict=True)):
            if name != dropped:
                writer.writerow([name, facts["values"][label], *([rows["splits"][at]] if facts["hasSplits"] else [])])


def test_what_is_spoilt_is_found_by_its_pixels(spoilt: Path) -> None:
    listener = Listener()
    result = check_labels(dataset=str(spoilt), emit=listener)
    errors = of_kind(result, "label")
    assert errors["train/=zero/wrong-0-007.png"].suggested == "two"
    assert errors["test/two/wrong-1-003.png"].suggested == "<b>one"
    assert errors["test/<b>one/copy.png"].suggested == "=zero"
    assert len(errors) <= 6
    leaks = of_kind(result, "leak")
    assert {row.group for row in leaks.values()} == {1}
    assert {*leaks} == {"train/two/0-001.png", "test/two/copy.png"}
    assert {row.group_labels for row in leaks.values()} == {"same"}
    assert all(row.score > 0.99 for row in leaks.values())
    copies = of_kind(result, "duplicate")
    assert {*copies} == {"test/=zero/1-002.png", "test/<b>one/copy.png"}
    assert {row.group_labels for row in copies.values()} == {"different"}
    assert next(iter(of_kind(result, "outlier"))) == "train/two/stranger.png"
    assert result.counts["leak"] == result.counts["duplicate"] == 1
    assert result.agreement > 0.95
    assert result.not_judged == 0
    assert "the pixels are the features" in listener.said(Note)


def test_the_table_has_every_finding(spoilt: Path) -> None:
    result = check_labels(dataset=str(spoilt))
    with result.table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [*rows[0]] == ["kind", "path", "label", "suggested", "score", "split", "group", "group_labels"]
    assert [row["path"] for row in rows] == [row.path for row in result.findings]
    assert {row["label"] for row in rows} <= {"'=zero", "<b>one", "two"}, "no cell is a formula"
    assert {row["group"] for row in rows if row["kind"] == "label"} == {""}
    again = check_labels(dataset=str(spoilt))
    assert (again.table.name, again.page.name) == ("findings-2.csv", "labels-2.html"), "nothing is overwritten"
    assert again.findings == result.findings


@pytest.mark.parametrize("split", ["", "train"])
def test_training_takes_the_table_of_the_page(spoilt: Path, split: str, tmp_path: Path) -> None:
    """Of folders with splits, and of one without, whose splits stay those that training makes."""
    folder = spoilt / split if split else spoilt
    result = check_labels(dataset=str(folder))
    names = rows_of_page(result.page)["names"]
    assert len(names) == result.images
    dropped = next(name for name in names if "stranger" in name)
    table_from(result.page, tmp_path / "labels.fixed.csv", dropped=dropped)
    before = open_dataset(DataConfig(name=str(folder)), directory=tmp_path / "data", emit=ignore)
    config = DataConfig(name=str(folder), labels=str(tmp_path / "labels.fixed.csv"))
    after = open_dataset(config, directory=tmp_path / "data", emit=ignore)
    assert after.facts.classes == before.facts.classes
    assert after.facts.counts == before.facts.counts | {"train": before.facts.counts["train"] - 1}
    was = dict(zip(before.names("train"), before.labels("train").tolist(), strict=True))
    assert {**dict(zip(after.names("train"), after.labels("train").tolist(), strict=True)), dropped: 2} == was
    assert len(list(folder.rglob("*.png"))) == result.images, "no image is touched"


def test_a_table_of_labels_keeps_its_own_words(tmp_path: Path) -> None:
    """Labels 0 to 2 have names in a map, which the new table must not replace."""
    folder = tmp_path / "pictures"
    draw(folder)
    files = sorted(folder.rglob("*.png"))
    labels = "".join(f"{file.relative_to(folder).as_posix()},{CLASSES.index(file.parent.name)}\n" for file in files)
    (folder / "train.csv").write_text("image,label\n" + labels.replace("=zero/", "'=zero/"))
    (folder / "names.json").write_text(json.dumps({"0": "zero", "1": "one", "2": "two"}))
    result = check_labels(dataset=str(folder), table={"labels": "train.csv"})
    table_from(result.page, tmp_path / "fixed.csv")
    config = DataConfig(name=str(folder), labels=str(tmp_path / "fixed.csv"))
    assert open_dataset(config, directory=tmp_path / "data", emit=ignore).facts.classes == ("zero", "one", "two")
    (folder / "names.json").rename(tmp_path / "our names.json")
    result = check_labels(
        dataset=str(folder), table={"labels": "train.csv", "label_map": str(tmp_path / "our names.json")}
    )
    told = (
        f"vit train {folder} --label-map &#x27;{tmp_path}/our names.json&#x27; --labels labels.pictures.fixed.csv takes"
    )
    assert told in result.page.read_text().replace("&#39;", "&#x27;").replace("'", "&#x27;")


def test_a_cross_validation_judges_by_its_out_of_fold_predictions(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    draw(folder, count=12)
    settings = {"data": {"name": str(folder), "folds": 3}, "optim": {"epochs": 1}, "run": {"name": "crossed"}}
    train(TINY, settings)
    listener = Listener()
    result = check_labels(dataset=str(folder), emit=listener)
    assert result.probabilities_from == "out-of-fold predictions of crossed"
    assert result.features_from == "crossed/fold-1"
    with Path("experiments/crossed/out-of-fold.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert result.images - result.not_judged == len(rows) < 36, "test images are in no fold"
    right = np.mean([row["truth"] == row["prediction"] for row in rows])
    assert result.agreement == pytest.approx(right, abs=1e-6)
    assert {row.split for row in result.findings} <= {"train", "test"}
    if result.counts["label"]:
        assert '"map":"data:image/jpeg' in result.page.read_text(encoding="utf-8")
    assert check_labels(model="crossed").findings == result.findings, "its own data need not be named"

    # One of its models has learnt the labels; and new labels are not those that it was trained on
    with pytest.raises(ModelError, match="has learnt their labels, wrong ones too") as refusal:
        check_labels(dataset=str(folder), model="crossed/fold-1")
    command = shlex.join(["vit", "train", str(folder), "--folds", "5", "--name", "crossed"])
    assert refusal.value.hint.startswith(f"`{command}`, then --model crossed; ")
    with pytest.raises(ModelError, match="has learnt their labels"):
        check_labels(dataset=str(folder / "two" / ".."), model="crossed/fold-2")
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    move(copy, "two/0-003.png", "<b>one")
    with pytest.raises(
        ModelError, match=r"crossed/fold-1 was trained on \d+ of the 36 images of copy, so it has learnt"
    ):
        check_labels(dataset=str(copy), model="crossed/fold-1")
    move(folder, "two/0-003.png", "<b>one")
    with pytest.raises(RunError, match="trained on other images or labels"):
        check_labels(dataset=str(folder), model="crossed")
    assert check_labels(dataset=str(folder)).features_from == "pixels"
    (folder / "<b>one/wrong-0-003.png").rename(folder / "two/0-003.png")
    table = Path("experiments/crossed/out-of-fold.csv")
    whole = table.read_text(encoding="utf-8")
    table.write_text("".join(whole.splitlines(keepends=True)[:8]), encoding="utf-8")
    check_labels(dataset=str(folder), model="crossed", emit=listener)
    missing = f"has no prediction of {len(rows) - 7} of {len(rows)} images that the folds validate on"
    assert missing in listener.said(Warned)
    for broken, why in (
        ("path,truth\n", "is not a table of out-of-fold predictions"),
        (whole.replace("of two", "of three"), "is of other classes: three, two"),
        (whole.rpartition(",")[0] + ",nan\n", "some probabilities are not numbers"),
    ):
        table.write_text(broken, encoding="utf-8")
        with pytest.raises(RunError, match=why) as refusal:
            check_labels(dataset=str(folder), model="crossed")
        assert refusal.value.hint == "remove it, then `vit train --resume experiments/crossed` writes it again"
    table.unlink()
    with pytest.raises(RunError, match=r"out-of-fold.csv is missing\n"):
        check_labels(dataset=str(folder), model="crossed")
    table.mkdir()
    with pytest.raises(RunError, match="cannot be read: Is a directory"):
        check_labels(dataset=str(folder), model="crossed")


def test_a_group_of_seeds_judges_no_labels(spoilt: Path, trained_run: Path) -> None:
    member = shutil.copytree(trained_run, Path("experiments/seeds/seed-0"))
    Run(member).note(nth_seed=1)
    with pytest.raises(RunError, match="seeds is a group of seeds, whose runs were all trained on the same images"):
        check_labels(dataset=str(spoilt), model="seeds")


def test_weights_of_other_data_give_features(spoilt: Path, trained_run: Path) -> None:
    result = check_labels(dataset=str(spoilt), model=str(trained_run))
    assert result.probabilities_from == "logistic regressions on features of shared, 5 folds"
    assert result.features_from == "shared"
    assert "test/two/copy.png" in of_kind(result, "leak")
    assert of_kind(result, "label").keys() >= {"train/=zero/wrong-0-007.png"}
    assert '"map":"data:image/jpeg' in result.page.read_text(encoding="utf-8")


def test_what_cannot_be_shown_is_counted(spoilt: Path) -> None:
    result = check_labels(dataset=str(spoilt), pictures=3)
    text = result.page.read_text(encoding="utf-8")
    assert text.count('class="image"') <= 3
    assert result.not_on_page["label"] == result.counts["label"] - 1
    assert f"the 1 worst of {result.counts['label']}; the others are in findings.csv" in text
    assert result.not_on_page["leak"] == 0


def test_images_that_cannot_be_read_are_left_out(spoilt: Path) -> None:
    (spoilt / "train/two/0-000.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"0-000\.png"):
        check_labels(dataset=str(spoilt))
    result = check_labels(dataset=str(spoilt), table={"on_bad_image": "skip"})
    assert result.images == len(list(spoilt.rglob("*.png"))) - 1
    assert of_kind(result, "label").keys() >= {"train/=zero/wrong-0-007.png"}


def test_a_judge_that_knows_nothing_is_named(tmp_path: Path) -> None:
    random, folder = np.random.default_rng(0), tmp_path / "noise"
    for at in range(60):
        save(folder / CLASSES[at % 3] / f"{at}.png", random.integers(0, 256, (8, 8)))
    listener = Listener()
    result = check_labels(dataset=str(folder), emit=listener)
    assert result.counts["label"] > 12
    (warning,) = [line for line in listener.said(Warned).splitlines() if "labels are doubted, mostly wrongly" in line]
    assert f"<p>Warning: {warning}.</p>" in result.page.read_text(encoding="utf-8"), "the page repeats it"


def test_pixels_of_photos_are_warned_of(image_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "photos", {"cat": 3, "dog": 3}, size=(80, 90), mode="RGB")
    listener = Listener()
    result = check_labels(dataset=str(folder), emit=listener)
    assert "pixels of photos say little about classes" in listener.said(Warned)
    assert "<p>Warning: pixels of photos say little" in result.page.read_text(encoding="utf-8")
    assert result.not_judged == 6, "three images of a class are too few for five folds"
    assert result.counts["label"] == 0


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({}, UsageError, "no data set is given"),
        ({"dataset": "digits", "similarity": 1.5}, UsageError, "--similarity 1.5"),
        ({"dataset": "digits", "pictures": 0}, UsageError, "--pictures 0"),
        ({"dataset": "digits", "output": Path("file")}, FileError, "file is a file"),
        ({"dataset": "digits", "table": {"on_bad_image": "Skip"}}, UsageError, "on_bad_image = 'Skip' is not one of"),
    ],
)
def test_what_is_not_possible_is_refused(asked: dict[str, Any], error: type[Exception], words: str) -> None:
    Path("file").write_text("")
    with pytest.raises(error, match=words):
        check_labels(**asked)


def test_the_command_and_the_function_say_the_same(run_cli: Callable[..., Outcome], spoilt: Path) -> None:
    outcome = run_cli("check-labels", spoilt, "--pictures", "4", "--similarity", "0.99")
    assert outcome.code == 0, outcome.err
    for words in ("likely label errors", "near-duplicates in different splits", "wrong-0-007"):
        assert words in outcome.out
    assert "left out: " in outcome.out
    printed = json.loads(run_cli("check-labels", spoilt, "--json").out)
    result = vitcli.check_labels(spoilt, quiet=True)
    assert [row["path"] for row in printed["findings"]] == [row.path for row in result.findings]
    assert printed["counts"] == result.counts
    assert repr(result).startswith("<LabelCheck of rows: ")
    assert "&lt;b&gt;one" in result._repr_html_()
    outcome = run_cli("check-labels", spoilt, "--model", "nobody")
    assert outcome.code == 1
    assert "nobody" in outcome.err


def test_what_a_table_of_labels_cannot_keep_is_named() -> None:
    def told(values: Sequence[str], names: Sequence[str] = ("a.png",)) -> str:
        return not_kept(LabelTable(names=names, labels=[0], classes=values, values=values))

    assert told(["cat", "1", "02", "10"], ["a b.png", "größe.png"]) == ""
    assert "the labels '1', '01'" in told(["1", "01", "2"])
    assert "the labels 'cat', ' cat'" in told(["cat", " cat"])
    assert "the labels 'NaN'" in told(["NaN", "cat"])
    assert "images ' e.png'" in told(["cat", "dog"], ["a b.png", " e.png"])
    assert told(["cat", "dog"], [os.fsdecode(b"caf\xe9.png")]).startswith("a table of labels cannot keep the images ")


def test_a_place_where_nothing_can_be_written_is_refused_at_once(spoilt: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = Listener()
    with pytest.raises(FileError, match="a file, not a folder"):
        check_labels(dataset=str(spoilt), output=tmp_path / "file" / "sub", emit=told)
    assert "the pixels are the features" not in told.said(Note)
