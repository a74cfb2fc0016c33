"""``vit report``: the stored evaluation on a page, what is evaluated first, runs side by side, and the model card."""

import csv
import gc
import html
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard

import vitcli
from tests.conftest import TINY, Outcome
from vitcli.core.events import TaskProgress, ignore
from vitcli.core.files import write_json
from vitcli.core.runs import Run
from vitcli.core.stored import read_json
from vitcli.data.dataset import Dataset, _keep_arrays, _read_facts
from vitcli.data.raw import ArraySplit, RawDataset
from vitcli.data.splits import Subset
from vitcli.engine.checkpoint import load_checkpoint, save_checkpoint
from vitcli.figures.report_sections import Judgement
from vitcli.judging.answers import collect
from vitcli.judging.judgement import AnsweredImages, score_rows, with_pictures
from vitcli.judging.metrics import metrics_of
from vitcli.judging.mistakes import most_telling, surest_of_each_class
from vitcli.judging.model_card import _intervals
from vitcli.judging.out_of_fold import predictors
from vitcli.models.vit import VisionTransformer
from vitcli.trained.judged_images import JudgedImages, choose_images
from vitcli.trained.loading import load_models
from vitcli.trained.origin import origin_of

RunCli = Callable[..., Outcome]
FIRST = "is evaluated first, as by `vit eval --model"


@pytest.fixture
def digits(trained_run: Path) -> Path:
    """A run on the digits that may be changed, without an evaluation."""
    path = shutil.copytree(trained_run, Path("experiments") / "mine")
    shutil.rmtree(path / "evaluations", ignore_errors=True)
    return path


@pytest.fixture(scope="module")
def evaluations(run_cli: RunCli, trained_run: Path, data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The evaluations of the run on the digits, on its test images only; not to be changed."""
    run = shutil.copytree(trained_run, tmp_path_factory.mktemp("evaluated") / "mine")
    shutil.rmtree(run / "evaluations", ignore_errors=True)
    assert run_cli("eval", "--model", run, "--data-dir", data_dir).code == 0
    return run / "evaluations"


@pytest.fixture
def evaluated(digits: Path, evaluations: Path) -> Path:
    """A run on the digits that may be changed, with its evaluation on the test images."""
    shutil.copytree(evaluations, digits / "evaluations")
    return digits


def disagree(first: Path, second: Path) -> None:
    """Exchange the two classes of the first model; the second one becomes so sure that the mean has its answers."""
    kept = load_checkpoint(second)
    for path, changed in ((first, lambda head: head.flip(0)), (second, lambda head: 100 * head)):
        weights = {name: changed(each) if name.startswith("head.") else each for name, each in kept.weights.items()}
        save_checkpoint(path, replace(load_checkpoint(path), weights=weights))


def reported(run_cli: RunCli, *words: object) -> tuple[dict[str, Any], Outcome]:
    outcome = run_cli("report", *words, "--json")
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out), outcome


def cells_of(page: str) -> dict[str, list[Any]]:
    found = re.findall(r'class="cell" data-cell="([-\d]+)">(.*?)</script>', page)
    return {name: json.loads(text) for name, text in found}


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def changed(file: Path, **facts: Any) -> None:
    write_json(file, {**read_json(file), **facts})


# The page


def test_the_newest_run_is_evaluated_if_it_was_not_and_only_then(run_cli: RunCli, digits: Path) -> None:
    result, outcome = reported(run_cli)
    (evaluation,) = result["evaluations"]
    assert "report: the newest finished run, mine" in outcome.err
    assert f"mine {FIRST} mine`: there is no complete evaluation of it yet" in outcome.err
    assert (evaluation["is_new"], evaluation["images"], evaluation["split"]) == (True, 359, "test")
    stored = read_json(digits / "evaluations" / "test.json")
    assert evaluation["top1"] == stored["top1"]
    again, outcome = reported(run_cli, "mine")
    assert not again["evaluations"][0]["is_new"]
    assert FIRST not in outcome.err
    page = Path(result["file"]).read_text(encoding="utf-8")
    assert result["file"] == "experiments/mine/report.html"
    assert f"{100 * stored['top1']:.2f} % accuracy on 359 images of digits (test split), which had no part" in page
    assert "vit train --from-run mine" in page


def test_every_image_is_in_the_cell_of_its_answer(run_cli: RunCli, evaluated: Path) -> None:
    result, _ = reported(run_cli, "mine", "--worst", "5")
    cells = cells_of((evaluated / "report.html").read_text(encoding="utf-8"))
    confusion = read_json(evaluated / "evaluations" / "test.json")["confusion"]
    assert {name: len(rows) for name, rows in cells.items()} == {f"0-{a}-{b}": n for a, b, n in confusion}
    assert result["evaluations"][0]["pictures"] == 359
    assert result["evaluations"][0]["maps"] == 5
    predictions = (evaluated / "evaluations" / "test-predictions.csv").read_text().splitlines()[1:]
    names = {row.split(",")[0]: row.split(",")[1:4] for row in predictions}
    for cell, rows in cells.items():
        _, truth, predicted = cell.split("-")
        for _, name, confidence, _, address, is_small in rows:
            assert names[name] == [truth, predicted, str(confidence)]
            assert address.startswith("data:image/png")
            assert is_small


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"epoch": 1}, "the run was trained on since its last evaluation"),
        ({"fingerprint": "another"}, "images or labels have changed since its last evaluation"),
        ({"temperature": 2.0}, "its probabilities were calibrated since its last evaluation"),
        ({"classes": []}, "there is no complete evaluation of it yet"),
    ],
)
def test_an_evaluation_that_is_outdated_is_done_again(
    run_cli: RunCli, evaluated: Path, change: dict[str, Any], reason: str
) -> None:
    before = read_json(evaluated / "evaluations" / "test.json")
    assert before["epoch"] == 2
    changed(evaluated / "evaluations" / "test.json", **change)
    result, outcome = reported(run_cli, "mine", "--worst", "0")
    assert reason in outcome.err
    assert result["evaluations"][0]["is_new"]
    assert read_json(evaluated / "evaluations" / "test.json") == before


def test_a_run_without_its_data_is_reported_without_pictures(
    run_cli: RunCli, shapes: Path, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    photos = shutil.copytree(shapes, tmp_path / "photos")
    assert run_cli("train", photos, *tiny, "--name", "gone").code == 0
    assert run_cli("eval").code == 0
    shutil.rmtree(photos)
    result, outcome = reported(run_cli, "gone")
    assert "there will be no pictures: " in outcome.err
    assert result["evaluations"][0]["pictures"] == 0
    assert "There are no pictures, because the images are not on this machine." in Path(result["file"]).read_text()
    changed(Path("experiments/gone/evaluations/test.json"), epoch=7)
    assert run_cli("report", "gone").code == 1


def test_names_of_files_and_classes_stay_text(run_cli: RunCli, image_folder: Callable[..., Path]) -> None:
    image_folder(Path("photos"), {"=a&b": 10, "<b>ü": 10}, size=(70, 90), mode="RGB")
    for file in sorted(Path("photos").rglob("*.png")):
        file.rename(file.with_name(f"'quote\" {file.name}"))
    assert run_cli("train", "photos", *TINY, "--name", "run", "--test-fraction", "0.5").code == 0
    result, _ = reported(run_cli)
    page = Path(result["file"]).read_text(encoding="utf-8")
    names = {name for rows in cells_of(page).values() for _, name, *_ in rows}
    assert len(names) == result["evaluations"][0]["images"] == 10
    assert {name.partition("/")[0] for name in names} == {"=a&b", "<b>ü"}
    assert all(Path("photos", name).is_file() for name in names)
    assert "=a&amp;b" in page
    assert "<b>ü" not in re.sub(r"<script.*?</script>", "", page)
    assert "data:image/jpeg" in page


def test_runs_are_compared_on_one_page(run_cli: RunCli, evaluated: Path) -> None:
    shutil.copytree(evaluated, "experiments/other")
    changed(Path("experiments/other/config.json"), optim={**Run(evaluated).config["optim"], "lr": 0.125})
    result, _ = reported(run_cli, "mine", "other", "experiments/mine")
    assert [each["run"] for each in result["evaluations"]] == ["mine", "other"]
    assert result["file"] == "experiments/comparisons/mine-vs-other/report.html"
    page = Path(result["file"]).read_text(encoding="utf-8")
    compared = json.loads(run_cli("runs", "compare", "mine", "other", "--json").out)
    both = compared["pairs"][0]["comparison"]["both_right"]
    assert f"{both:,} right in both" in page
    assert '<th scope="row">optim.lr</th><td>0.02</td><td>0.125</td>' in page
    assert {name.partition("-")[0] for name in cells_of(page)} == {"0", "1"}
    assert result["not_compared"] == []


def test_the_models_of_one_run_only_are_kept(evaluated: Path) -> None:
    shutil.copytree(evaluated, "experiments/other")
    kept = []

    def count(event: object) -> None:
        if isinstance(event, TaskProgress) and event.task == "drawing attention maps":
            gc.collect()
            kept.append(sum(isinstance(each, VisionTransformer) for each in gc.get_objects()))

    gc.freeze()  # what other tests keep is neither collected nor counted
    vitcli.report(["mine", "other"], worst=1, quiet=True, emit=count)
    assert kept == [1] * 4


@pytest.mark.usefixtures("evaluated")
def test_runs_on_different_data_are_shown_but_not_compared(
    run_cli: RunCli, shapes: Path, tiny: tuple[str, ...]
) -> None:
    assert run_cli("train", shapes, *tiny, "--name", "shapes").code == 0
    result, outcome = reported(run_cli, "mine", "shapes")
    (reason,) = result["not_compared"]
    assert reason.startswith("shapes is not compared with mine: ")
    assert reason in " ".join(outcome.err.split())
    page = Path(result["file"]).read_text(encoding="utf-8")
    assert reason in page
    assert re.search(r'<th scope="row">top-5 accuracy</th><td class="number">[^<]+</td><td class="number">-</td>', page)


def test_a_group_is_the_mean_of_its_models_and_lists_its_runs(
    run_cli: RunCli, shapes: Path, tiny: tuple[str, ...], explained: list[tuple[int, int]]
) -> None:
    assert run_cli("train", shapes, *tiny, "--seeds", "2", "--name", "pair").code == 0
    disagree(*(Run(Path(f"experiments/pair/seed-{seed}")).best_checkpoint for seed in (0, 1)))
    result, outcome = reported(run_cli)
    rows = rows_of(Path("experiments/pair/evaluations/test-predictions.csv"))
    wrong = sorted(row["prediction"] for row in rows if row["truth"] != row["prediction"])
    assert wrong
    of_eval, of_report = explained[: len(wrong)], explained[-len(wrong) :]
    for maps in (of_eval, of_report):
        assert sorted(["left", "right"][target] for target, _ in maps) == wrong
        assert all(target != first for target, first in maps), "the answer of the group, not of its first model"
    assert "report: the newest finished run, pair" in outcome.err
    page = Path("experiments/pair/report.html").read_text(encoding="utf-8")
    assert result["evaluations"][0]["run"] == "pair"
    assert result["evaluations"][0]["models"] == 2
    assert re.search(r"pair: [\d.]+ % accuracy on [^.]*; mean probabilities of 2 models\.", page)
    for name in ("pair/seed-0", "pair/seed-1"):
        assert f'<th scope="row">{name}</th>' in page
        assert f"{name}, validation" in page
    assert not reported(run_cli, "pair")[0]["evaluations"][0]["is_new"]
    Path("both.html").touch()
    shown = run_cli("report", "pair", "pair/seed-0", "-o", "both.html")
    assert "replaced both.html" in shown.err
    assert ", mean probabilities of 2 models; " in " ".join(shown.out.split())
    compared = "pair: mean probabilities of 2 models; pair/seed-0: a single model"
    assert compared in Path("both.html").read_text(encoding="utf-8")
    assert compared in " ".join(run_cli("runs", "compare", "pair", "pair/seed-0").out.split())
    assert run_cli("report", "pair", "--card").code == 0
    card = Path("experiments/pair/README.md").read_text(encoding="utf-8")
    assert "An image classifier: the mean probabilities of 2 models, each `vit-" in card
    assert "vit predict photo.jpg --model pair" in card
    assert "`pair` is the folder of the 2 runs, whose probabilities are averaged." in card
    refused = run_cli("report", "pair", "pair/seed-0", "--card")
    assert "vit report pair --card" in refused.err


def test_a_cross_validation_without_test_images_is_reported_out_of_fold(
    run_cli: RunCli, image_folder: Callable[..., Path]
) -> None:
    image_folder(Path("pets"), {"cat": 9, "dog": 9, "eel": 2})
    words = ("train", "pets", *TINY, "--test-fraction", "0")
    assert run_cli(*words, "--folds", "3", "--name", "crossed").code == 0
    named, said = "out-of-fold predictions, 18 images", "each by the fold that was not trained on the image"
    result, outcome = reported(run_cli)
    (evaluation,) = result["evaluations"]
    assert "is evaluated first, as by `vit eval --model crossed --split val`" in outcome.err
    assert (evaluation["part"], evaluation["images"], evaluation["models"]) == ("out-of-fold", 18, 1)
    wrong = sum(row["truth"] != row["prediction"] for row in rows_of(Path("experiments/crossed/out-of-fold.csv")))
    assert (evaluation["pictures"], evaluation["maps"]) == (18, wrong)
    page = Path(result["file"]).read_text(encoding="utf-8")
    assert f"accuracy on {named} of pets, {said}, though it may have chosen its epoch." in page
    assert "in the fold that predicted the image." in page
    assert sum(map(len, cells_of(page).values())) == 18
    assert not reported(run_cli, "crossed")[0]["evaluations"][0]["is_new"]
    assert f"{named} of pets; 18 pictures" in " ".join(run_cli("report", "crossed").out.split())
    assert run_cli("report", "crossed", "--card").code == 0
    card = Path("experiments/crossed/README.md").read_text(encoding="utf-8")
    assert f"Measured on {named} of pets, {said}" in card
    assert "The scores above are of the single models, each on images that it was not trained on." in card
    shown = run_cli("runs", "show", "crossed")
    assert "out-of-fold predictions  " in shown.out
    assert f"out-of-fold predictions: {said}" in shown.err
    shutil.rmtree("pets")
    outcome = run_cli("report", "crossed")
    assert "there will be no pictures: " in outcome.err
    assert named in " ".join(outcome.out.split())


def test_out_of_fold_each_image_is_explained_by_the_fold_that_predicted_it(
    run_cli: RunCli, image_folder: Callable[..., Path]
) -> None:
    image_folder(Path("pets"), {"cat": 9, "dog": 9})
    words = ("train", "pets", *TINY, "--test-fraction", "0", "--folds", "3", "--name", "crossed")
    assert run_cli(*words).code == 0
    models = load_models("crossed", output_dir=Path("experiments"), device="cpu", emit=ignore)
    chosen = choose_images(
        models, dataset="", split="auto", directory="", offline=True, hint="", is_out_of_fold=True, emit=ignore
    )
    found = predictors(models, chosen, np.arange(18))
    names = chosen.dataset.names("train")
    for model, rows in found:
        assert model.run
        assert {names[row] for row in rows} == {*(model.run.split or {})["held_out"]["val"]}
    assert sorted(row for _, rows in found for row in rows) == [*range(18)]


def test_numbers_that_are_not_finite_are_no_complete_evaluation(run_cli: RunCli, evaluated: Path) -> None:
    table = evaluated / "evaluations" / "test-predictions.csv"
    whole = table.read_text(encoding="utf-8")
    heading, first, *rows = whole.splitlines()
    name, truth, predicted, _, *others = first.split(",")
    table.write_text("\n".join([heading, ",".join([name, truth, predicted, "", *others]), *rows]), encoding="utf-8")
    result, outcome = reported(run_cli, "mine", "--worst", "0")
    assert "there is no complete evaluation of it yet" in outcome.err
    assert result["evaluations"][0]["is_new"]
    assert table.read_text(encoding="utf-8") == whole
    numbers = evaluated / "evaluations" / "test.json"
    numbers.write_text(
        re.sub(r'"brier": [\d.]+', '"brier": NaN', numbers.read_text(encoding="utf-8")), encoding="utf-8"
    )
    assert reported(run_cli, "mine", "--worst", "0")[0]["evaluations"][0]["is_new"]


def test_the_command_on_the_page_has_all_options_that_were_given(run_cli: RunCli, digits: Path) -> None:
    given = ("--split", "val", "--worst", "1", "-o", "my page.html", "--device", "cpu", "--batch-size", "64")
    reported(run_cli, digits, *given, "--output-dir", "experiments")
    page = Path("my page.html").read_text(encoding="utf-8")
    again = f"vit report {digits} --split val --output 'my page.html' --device cpu --batch-size 64"
    assert f"`{again} --worst 1` writes it again" in html.unescape(page)
    confusion = read_json(digits / "evaluations" / "val.json")["confusion"]
    wrong = sum(count for truth, predicted, count in confusion if truth != predicted)
    assert f"These are 1 of {wrong} mistakes: of each class, those that the model was surest of." in page
    assert f"`{again} --worst {wrong}` draws more maps." in html.unescape(page)
    assert "the bright yellow patches count most for the predicted class" in page
    reported(run_cli, digits, *given[:2], "--worst", wrong, "-o", "all.html")
    assert f"These are all {wrong} mistakes, the surest first.</p>" in Path("all.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nobody",), "no run 'nobody' in experiments"),
        (("mine", "--split", "train", "--output", "."), ". is a folder"),
        (("mine", "--worst", "-1"), "--worst -1 is not a whole number from 0 to 1000"),
        (("mine", "--worst", "1001"), "--worst 1001 is not a whole number from 0 to 1000"),
        (("mine", "--split", "tset"), "--split test"),
    ],
)
@pytest.mark.usefixtures("digits")
def test_what_cannot_be_reported_is_refused(run_cli: RunCli, words: tuple[str, ...], said: str) -> None:
    outcome = run_cli("report", *words)
    assert outcome.code in {1, 2}
    assert said in outcome.err
    assert "Traceback" not in outcome.err


def test_python_reports_too(evaluated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = vitcli.report(evaluated, output="page.html", worst=0, quiet=True)
    assert Path("page.html").stat().st_size == result.size
    assert repr(result) == "<Report page.html: mine>"
    assert all(
        each in result._repr_html_() for each in ("mine", "page.html", f"{100 * result.evaluations[0].top1:.2f} %")
    )
    assert capsys.readouterr() == ("", "")


def test_two_runs_of_one_name_are_refused(run_cli: RunCli, digits: Path) -> None:
    shutil.copytree(digits, Path("elsewhere/mine"))
    assert "two of the runs have the same name: mine, mine" in run_cli("report", "mine", "elsewhere/mine").err


def test_an_evaluation_says_how_to_see_the_mistakes(run_cli: RunCli, digits: Path) -> None:
    assert f"next: vit report {digits}  writes a web page with a picture of every mistake" in run_cli("eval").err
    assert f"next: vit report {digits} --split val" in run_cli("eval", "--split", "val").err
    assert "next:" not in run_cli("eval", "--tta", "five").err


def test_figures_of_an_earlier_evaluation_do_not_stay(run_cli: RunCli, digits: Path) -> None:
    (digits / "figures").mkdir(exist_ok=True)
    old = digits / "figures" / "mistakes-test.png"
    old.write_bytes(b"")
    assert run_cli("report", "mine", "--worst", "0").code == 0
    assert not old.exists()


@pytest.mark.parametrize(
    ("keep", "split", "held_out", "said"),
    [
        ("best", "val", False, "(val split), which chose the epoch, so scores may be too high"),
        ("last", "val", False, "(val split), which were scored after every epoch, though they chose nothing"),
        ("best", "test", False, "(test split), which were scored after every epoch, though they chose nothing"),
        ("best", "test", None, "(test split), and it is not known whether they had a part in training"),
        ("best", "train", False, "(train split), on which the model was trained, so scores are too high"),
    ],
)
def test_the_part_of_the_images_in_training_is_said(
    run_cli: RunCli, digits: Path, keep: str, split: str, held_out: Any, said: str
) -> None:
    changed(digits / "config.json", optim={**Run(digits).config["optim"], "keep": keep})
    assert run_cli("eval", "--model", "mine", "--split", split).code == 0
    changed(digits / "evaluations" / f"{split}.json", held_out=held_out)
    reported(run_cli, "mine", "--split", split, "--card", "-o", "card.md")
    assert f"images of digits {said}" in Path("card.md").read_text(encoding="utf-8")
    shutil.copytree(digits, "experiments/other")
    changed(Path("experiments/other/config.json"), optim={**Run(digits).config["optim"], "keep": "last"})
    err = run_cli("runs", "compare", "mine", "other", "--split", split).err
    assert ("chose the epoch of mine, so scores" in " ".join(err.split())) == ("which chose the epoch" in said)


# Which pictures


def test_mistakes_come_first_and_the_surest_of_them() -> None:
    truth = np.array([0, 0, 0, 1, 1, 1, 0, 1])
    predicted = np.array([0, 1, 1, 1, 0, 1, 0, 1])
    confidence = np.array([0.9, 0.6, 0.8, 0.7, 0.99, 0.6, 0.5, 0.65])
    assert most_telling(truth, predicted, confidence, most_of_pair=9).tolist() == [4, 2, 1, 6, 5, 7, 0, 3]
    assert most_telling(truth, predicted, confidence, most_of_pair=1).tolist() == [4, 2, 6, 5]
    assert surest_of_each_class(truth, predicted, confidence, 9).tolist() == [4, 2, 1]
    assert surest_of_each_class(truth, predicted, confidence, 1).tolist() == [4]
    assert surest_of_each_class(truth, truth, confidence, 9).tolist() == []


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> JudgedImages:
    """Ten thousand images of noise, which no format makes small."""
    images = np.random.default_rng(0).integers(0, 256, (10_000, 3, 32, 32), dtype=np.uint8)
    split = ArraySplit(images=images, labels=np.arange(10_000) % 10)
    folder = tmp_path_factory.mktemp("many")
    _keep_arrays(RawDataset(name="many", classes=tuple("0123456789"), splits={"train": split}), "many", folder)
    return JudgedImages(
        dataset=Dataset(_read_facts(folder), "", folder),
        words=["many"],
        split="train",
        subset=Subset(found="train"),
        is_own=True,
    )


def test_a_large_split_keeps_to_its_room_and_says_what_is_left_out(many: JudgedImages) -> None:
    random = np.random.default_rng(0)
    truth = np.arange(10_000) % 10
    predicted = np.where(random.random(10_000) < 0.05, random.integers(0, 10, 10_000), truth)
    confidence = random.random(10_000)
    images = AnsweredImages(
        names=[str(at) for at in range(10_000)],
        truth=truth,
        predicted=predicted,
        confidence=confidence,
        of_truth=confidence,
        members=np.where(np.arange(10_000) == 5, -1, np.arange(10_000)),
    )
    nothing = Judgement(summary="", scores=[], classes=[], class_rows=[], confusion=[], bins=[], calibration="")
    wrong = int((truth != predicted).sum())
    shown = with_pictures(nothing, images, many, {}, room=3_000_000, map_legend="", more_maps="vit report --worst 9")
    size = sum(len(each.address) for each in shown.pictures)
    assert 2_800_000 < size < 3_000_000
    assert [each.truth != each.predicted for each in shown.pictures[:wrong]] == [True] * wrong
    left_out = 10_000 - len(shown.pictures)
    assert f"They show {wrong} of {wrong} mistakes, the surest first" in shown.pictures_note
    assert f"left out of this page: {left_out:,}; the table of predictions" in shown.pictures_note
    few = with_pictures(nothing, images, many, {}, room=100_000, map_legend="", more_maps="vit report --worst 9")
    assert {each.truth != each.predicted for each in few.pictures} == {True}
    sure = [each.confidence for each in few.pictures]
    assert sure == sorted(sure, reverse=True)


# The model card


def test_a_card_has_the_measured_numbers(run_cli: RunCli, evaluated: Path) -> None:
    result, _ = reported(run_cli, "mine", "--card")
    assert result["file"] == "experiments/mine/README.md"
    card, stored = ModelCard.load(result["file"]), read_json(evaluated / "evaluations" / "test.json")
    data = card.data
    assert (data.library_name, data.pipeline_tag, data.datasets) == ("vitcli", "image-classification", None)
    assert data.license is None
    assert "# license: none is recorded" in Path(result["file"]).read_text()
    assert "Training started from random weights. No licence is recorded." in card.text
    assert "Licence of the data, `digits`: CC BY 4.0, as vit records it." in card.text
    assert "The data and the teacher may restrict the licence of this model." in card.text
    measured = {each.metric_type: each for each in data.eval_results}
    for kind, field in {"accuracy": "top1", "f1": "macro_f1", "loss": "loss", "ece": "ece"}.items():
        assert measured[kind].metric_value == stored[field]
        assert measured[kind].metric_args.get("interval_95") == stored["intervals"].get(field)
        assert (measured[kind].dataset_name, measured[kind].dataset_split) == ("digits", "test")
    ends = stored["intervals"]["top1"]
    assert (
        f"| accuracy (top-1) | {100 * stored['top1']:.2f} % | {100 * ends[0]:.2f} % to {100 * ends[1]:.2f} % |"
        in card.text
    )
    assert "Measured on 359 images of digits (test split), which had no part in training." in card.text
    assert "vit train digits --epochs 1" in card.text
    assert "vit predict photo.jpg --model best.safetensors" in card.text


@pytest.mark.parametrize(
    ("confusion", "said"),
    [
        (
            ((0, 0, 9), (0, 1, 1), (1, 1, 10)),
            "accuracy (top-1) by the formula of Wilson; all others by a bootstrap of the images",
        ),
        (((0, 0, 10), (1, 0, 10)), "loss (nats) by its standard error; accuracy (top-1) by the formula of Wilson."),
        (((0, 0, 10), (1, 1, 10)), "accuracy (top-1) by the exact formula of Clopper and Pearson."),
    ],
)
def test_a_card_says_how_its_intervals_were_computed(confusion: tuple[tuple[int, int, int], ...], said: str) -> None:
    truth, predicted = (np.repeat([each[at] for each in confusion], [each[2] for each in confusion]) for at in (0, 1))
    logits = torch.nn.functional.one_hot(torch.from_numpy(predicted), 2).double()
    metrics = metrics_of(collect([(logits, torch.from_numpy(truth))], ("a", "b")))
    assert said in _intervals(metrics, score_rows(metrics))


def test_a_card_lists_the_other_evaluations_of_the_run(run_cli: RunCli, evaluated: Path) -> None:
    reported(run_cli, "mine", "--card", "-o", "card.md")
    assert "Other evaluations" not in Path("card.md").read_text(encoding="utf-8")
    assert run_cli("eval", "--model", "mine", "--split", "val").code == 0
    top1 = read_json(evaluated / "evaluations" / "val.json")["top1"]
    reported(run_cli, "mine", "--card", "-o", "later.md")
    card = Path("later.md").read_text(encoding="utf-8")
    assert f"Other evaluations in the folder of the run: `val`, {100 * top1:.2f} % accuracy." in card
    assert "Not measured for this card: changed or attacked images" in card
    assert "It always predicts one of its classes, even if the image shows something else." in card
    assert "| folder |" not in card


def test_a_card_says_that_training_was_stopped(run_cli: RunCli, evaluated: Path) -> None:
    reported(run_cli, "mine", "--card", "-o", "card.md")
    assert "| status |" not in Path("card.md").read_text(encoding="utf-8")
    epochs = len(Run(evaluated).metrics["epochs"])
    changed(evaluated / "run.json", status="interrupted")
    changed(evaluated / "config.json", optim={**Run(evaluated).config["optim"], "epochs": 9})
    reported(run_cli, "mine", "--card", "-o", "later.md")
    said = f"| status | interrupted, after {epochs} of 9 epochs |"
    assert said in Path("later.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("evaluated")
def test_a_card_that_someone_has_edited_is_kept(run_cli: RunCli) -> None:
    for name in ("README.md", "README-2.md"):
        result, _ = reported(run_cli, "mine", "--card")
        assert Path(result["file"]).name == name
    outcome = run_cli("report", "mine", "--card", "-o", "card.md")
    assert "read it before you publish it" in outcome.err
    assert ModelCard.load("card.md").data.model_name == "mine"


@pytest.mark.parametrize(
    ("init_from", "licence", "base", "said"),
    [
        ("deit-tiny", "apache-2.0", "timm/deit_tiny_patch16_224.fb_in1k", "which is under Apache-2.0"),
        ("hf:somebody/vit", "unknown", "somebody/vit", "Unknown: check the licence of `hf:somebody/vit`"),
        ("lost.pth", "unknown", None, "Unknown: check the licence of `lost.pth`"),
        ("experiments/before", "apache-2.0", "timm/deit_tiny_patch16_224.fb_in1k", "which is under Apache-2.0"),
    ],
)
def test_the_licence_is_that_of_the_first_weights(
    run_cli: RunCli, evaluated: Path, init_from: str, licence: str, base: str | None, said: str
) -> None:
    before = shutil.copytree(evaluated, Path("experiments/before"))
    changed(before / "config.json", run={**Run(before).config["run"], "init_from": "deit-tiny"})
    changed(evaluated / "config.json", run={**Run(evaluated).config["run"], "init_from": init_from})
    result, _ = reported(run_cli, "mine", "--card")
    card = ModelCard.load(result["file"])
    assert (card.data.license, card.data.base_model) == (licence, base)
    assert said in card.text


@pytest.mark.parametrize(
    ("data", "dataset", "hub", "said"),
    [
        ("mnist", "mnist", "ylecun/mnist", "`mnist`: CC BY-SA 3.0, as vit records it."),
        ("/photos/mnist", "mnist", None, "`mnist`: no licence is recorded."),
        ("svhn", "svhn", "ufldl-stanford/svhn", "`svhn`: non-commercial, as vit records it."),
        ("cassava", "cassava", None, "`cassava`: see Kaggle, as vit records it."),
    ],
)
def test_the_licence_of_the_data_is_the_recorded_one_and_a_folder_has_none(
    run_cli: RunCli, evaluated: Path, data: str, dataset: str, hub: str | None, said: str
) -> None:
    changed(evaluated / "evaluations" / "test.json", data=data, dataset=dataset)
    result, _ = reported(run_cli, "mine", "--card")
    card = ModelCard.load(result["file"])
    assert f"Licence of the data, {said}" in card.text
    assert card.data.datasets == ([hub] if hub else None)
    assert {each.dataset_type for each in card.data.eval_results} == {hub or "unknown"}


def test_runs_that_started_from_each_other_have_an_origin(digits: Path) -> None:
    changed(digits / "config.json", run={**Run(digits).config["run"], "init_from": str(digits)})
    assert origin_of(Run(digits), Path("experiments")).licence == ""


def test_names_stay_text_in_a_card(run_cli: RunCli, image_folder: Callable[..., Path]) -> None:
    image_folder(Path("photos"), {"a|`b": 6, "<img src=x>": 6})
    assert run_cli("train", "photos", *TINY, "--name", "r_[x]", "--test-fraction", "0.5").code == 0
    result, _ = reported(run_cli, "--card")
    card = ModelCard.load(result["file"])
    assert card.data.datasets is None  # a folder has no name on the hub
    assert r"# r\_\[x\]" in card.text
    assert "``a|`b``" in card.text
    assert "`<img src=x>`" in card.text


def test_a_report_replaces_no_file_of_another_kind_and_no_card(run_cli: RunCli, evaluated: Path) -> None:
    for code, words, file, said in (
        (2, (), "figure.pdf", "figure.pdf: a page is an .html file"),
        (2, ("--card",), "figure.svg", "figure.svg: a card is an .md file"),
        (1, ("--card",), "card.md", "card.md exists already, and people may have added to it"),
        (1, (), "page.html", "page.html is a file of another kind, and would be replaced"),
    ):
        Path(file).write_text("mine")
        outcome = run_cli("report", evaluated, *words, "-o", file)
        assert outcome.code == code
        assert said in outcome.err
        assert Path(file).read_text() == "mine"
    for _ in range(2):
        reported(run_cli, evaluated, "-o", "own.html")
