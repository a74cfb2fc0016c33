"""Out-of-fold predictions: each labelled image once, by the fold that was not trained on it, however the folds ended."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.builders.runs import TINY, Listener, Stopped
from tests.conftest import Outcome
from vitcli.core.errors import RunError
from vitcli.core.events import Note, Warned
from vitcli.core.runs import Run
from vitcli.training.groups import FoldsResult
from vitcli.workflows.resume import resume
from vitcli.workflows.train import train

ImageFolder = Callable[..., Path]
RUN = Path("experiments/run")
TABLE = RUN / "out-of-fold.csv"


def settings(folder: Path, fold: int = 0, **data: Any) -> dict[str, Any]:
    return {"data": {"name": str(folder), "folds": 3, "fold": fold, **data}, "optim": {"epochs": 1}}


def words_of(settings: dict[str, dict[str, Any]]) -> list[str]:
    assigned = [f"{name}.{key}={value}" for name, table in settings.items() for key, value in table.items()]
    return [word for each in assigned if not each.startswith("run.name") for word in ("--set", each)]


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def pets(image_folder: ImageFolder, tmp_path: Path) -> Path:
    """Two classes that are cut into three folds, one of which begins like a formula; and one that is too small."""
    return image_folder(tmp_path / "pets", {"=cat": 9, "dog": 9, "eel": 2})


def test_every_image_has_one_row_in_the_order_of_the_data_set(pets: Path) -> None:
    listener = Listener()
    result = train(TINY, settings(pets, test_fraction=0.0), emit=listener)
    assert isinstance(result, FoldsResult)
    assert result.out_of_fold == TABLE
    rows = rows_of(TABLE)
    classes = ["probability of =cat", "probability of dog", "probability of eel"]
    assert list(rows[0]) == ["path", "truth", "prediction", *classes]
    folders = {"=cat": "'=cat", "dog": "dog"}
    files = sorted(file for name in folders for file in (pets / name).iterdir())
    assert [row["path"] for row in rows] == [f"{folders[file.parent.name]}/{file.name}" for file in files]
    assert [row["truth"] for row in rows] == [folders[file.parent.name] for file in files]
    for row in rows:
        shares = {name: float(row[f"probability of {name.strip(chr(39))}"]) for name in ("'=cat", "dog", "eel")}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        assert shares[row["prediction"]] == max(shares.values())
    said = "18 of 20 labelled images (the others: 2 in no fold, because their class has too few)"
    assert f"out-of-fold predictions of {said}: {result.out_of_fold}" in listener.said(Note)


def test_a_fold_is_as_accurate_as_its_rows(shapes: Path) -> None:
    listener = Listener()
    result = train(TINY, settings(shapes), emit=listener)
    assert isinstance(result, FoldsResult)
    right = {row["path"]: row["truth"] == row["prediction"] for row in rows_of(TABLE)}
    held_out = [Run(fold.path).split for fold in result.folds]
    for fold, split in zip(result.folds, held_out, strict=True):
        assert split
        names = split["held_out"]["val"]
        assert fold.best.val_accuracy == pytest.approx(sum(right[name] for name in names) / len(names))
    assert not right.keys() & {*(held_out[0] or {})["held_out"]["test"]}
    assert "of 16 of 20 labelled images (the others: 4 held out for testing)" in listener.said(Note)


def test_it_is_the_same_after_several_calls_and_after_resuming(shapes: Path) -> None:
    train(TINY, settings(shapes))
    whole = TABLE.read_bytes()
    shutil.rmtree(RUN)
    for fold in (1, 3):
        train(TINY, settings(shapes, fold))
    with pytest.raises(Stopped):
        train(TINY, settings(shapes, 2), {"optim": {"epochs": 2}}, emit=Listener(1))
    assert not TABLE.exists()
    listener = Listener()
    train(TINY, settings(shapes, 2), {"run": {"overwrite": True}}, emit=listener)
    assert TABLE.read_bytes() == whole
    assert "all 3 folds of run are finished: validation accuracy" in listener.said(Note)
    listener = Listener()
    resume("run/fold-2", {"optim": {"epochs": 2}}, emit=listener)
    assert TABLE.exists()
    assert "the runs of run were not trained equally long: optim.epochs" in listener.said(Warned)
    shutil.rmtree(RUN / "fold-2")
    resume("run")
    assert TABLE.read_bytes() == whole


def test_folds_of_other_settings_have_no_mean(shapes: Path) -> None:
    for fold in (1, 2):
        train(TINY, settings(shapes, fold))
    listener = Listener()
    train(TINY, settings(shapes, 3), {"optim": {"lr": 0.5, "clip_grad": 0.1}}, emit=listener)
    said = listener.said(Warned)
    assert "the runs of run have different settings, so their mean would say nothing: optim.lr, optim.clip_grad" in said
    assert not (RUN / "folds.json").exists()
    assert not TABLE.exists()
    shutil.rmtree(RUN / "fold-1")
    with pytest.raises(RunError, match="different settings"):
        resume("run")
    assert not (RUN / "fold-1").exists(), "nothing is trained before"


def test_what_an_earlier_version_left_without_it_gets_it_by_resuming(shapes: Path) -> None:
    train(TINY, settings(shapes))
    whole = TABLE.read_bytes()
    TABLE.unlink()
    resume("run")
    assert TABLE.read_bytes() == whole


def test_while_a_fold_is_trained_again_there_are_no_results_of_the_whole(shapes: Path) -> None:
    train(TINY, settings(shapes))
    (RUN / "evaluations").mkdir()
    with pytest.raises(Stopped):
        train(TINY, settings(shapes, 2), {"run": {"overwrite": True}}, emit=Listener(1))
    assert [path.name for path in sorted(RUN.iterdir())] == ["fold-1", "fold-2", "fold-3"]


def test_a_fold_joins_only_those_that_were_trained_alike(shapes: Path) -> None:
    def trained(fold: int, *others: dict[str, Any], **data: Any) -> str:
        one = settings(shapes, fold, **data) | {"run": {"device": "cpu"}}
        run = train({**TINY, "run": {**TINY["run"], "name": ""}}, one, *others).path
        return run.parent.name

    first = trained(1)
    assert trained(2) == first
    assert trained(3, {"run": {"seed": 7}}) != first
    assert trained(3, {"optim": {"lr": 0.5}}) != first
    assert trained(3) != first  # the newest one is another one


def test_folds_that_do_not_belong_together_give_no_table(shapes: Path) -> None:
    for fold in (1, 2, 3):
        listener = Listener()
        train(TINY, settings(shapes, fold), {"run": {"seed": fold}}, emit=listener)
    assert not TABLE.exists()
    assert "no out-of-fold predictions: run run/fold-2 validated on images that another" in listener.said(Warned)


def test_images_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    random, folder = np.random.default_rng(0), tmp_path / "photos"
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for number in range(6):
            pixels = random.integers(0, 256, (80, 80, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.jpg")
    broken = folder / "cat" / "3.jpg"
    broken.write_bytes(broken.read_bytes()[:-500])  # the header is whole
    small = {"model": {"image_size": 16, "patch_size": 8}, "augment": {"crop_scale": 1.0}}
    listener = Listener()
    train(TINY, small, settings(folder, test_fraction=0.0, on_bad_image="skip"), emit=listener)
    assert "of 11 of 12 labelled images (the others: 1 cannot be read)" in listener.said(Note)
    assert "cat/3.jpg" not in {row["path"] for row in rows_of(TABLE)}


def test_a_cross_validation_without_test_images_is_judged_by_them(
    pets: Path, run_cli: Callable[..., Outcome], tmp_path: Path
) -> None:
    trained = run_cli("train", pets, *words_of(TINY), "--folds", "3", "--test-fraction", "0", "--name", "run")
    assert "vit eval --model run  evaluates the out-of-fold predictions" in trained.err
    outcome = run_cli("eval", "--json")
    assert outcome.code == 0, outcome.err
    assert (
        "out-of-fold predictions of 18 of 20 labelled images: each by the fold that was not trained on the image"
        in outcome.err
    )
    assert "scores may be too high" not in outcome.err
    result, rows = json.loads(outcome.out), rows_of(TABLE)
    metrics = result["metrics"]
    assert (result["part"], result["split"], result["held_out"], result["models"]) == ("out-of-fold", "val", False, 3)
    assert metrics["images"] == len(rows) == 18
    assert metrics["top1"] == pytest.approx(np.mean([row["truth"] == row["prediction"] for row in rows]))
    shares = [float(row[f"probability of {row['truth'].strip(chr(39))}"]) for row in rows]
    assert metrics["loss"] == pytest.approx(-np.log(shares).mean())
    assert Path(result["files"]["metrics"]) == RUN / "evaluations" / "out-of-fold.json"
    assert [row["path"] for row in rows_of(Path(result["files"]["predictions"]))] == [row["path"] for row in rows]
    shown = run_cli("eval", pets, "--mistakes", tmp_path / "wrong").out
    assert "pets, out-of-fold predictions, 18 images" in shown
    assert "3 folds, each for the images that it was not trained on: run/fold-1, run/fold-2, run/fold-3" in shown
    wrong = sum(row["truth"] != row["prediction"] for row in rows)
    assert len(list((tmp_path / "wrong").rglob("*.png"))) == wrong
    refused = run_cli("eval", "--tta", "flip")
    assert (refused.code, "hint: leave out --tta" in refused.err) == (1, True)

    TABLE.write_text(re.sub(r"0\.\d+$", "0.000000", TABLE.read_text(), flags=re.MULTILINE))  # as earlier versions round
    rounded = run_cli("eval", "--json")
    assert "probabilities that are stored as 0 count as 5e-07 in the loss" in rounded.err
    assert json.loads(rounded.out)["metrics"]["top1"] == metrics["top1"]
    shutil.copy(next((pets / "dog").iterdir()), pets / "eel" / "more.png")
    changed = run_cli("eval")
    assert changed.code == 1
    assert "the out-of-fold predictions of run are of other images or labels than those of pets now" in changed.err
    assert "hint: `vit eval --model experiments/run/fold-1` evaluates one fold" in changed.err
    TABLE.unlink()
    missing = run_cli("eval")
    assert missing.code == 1
    assert "hint: `vit train --resume" in missing.err
