"""``vit runs`` and its subcommands, on copies of one trained run whose files are changed."""

import csv
import io
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

import vitcli
from tests.conftest import TINY, Outcome
from vitcli.core.errors import RunError
from vitcli.core.files import write_csv, write_json
from vitcli.core.runs import Run
from vitcli.core.stored import read_json
from vitcli.data.locks import alone_in
from vitcli.models.registry import changed_sizes
from vitcli.workflows.edit_runs import check_deletable, delete, tag

RunCli = Callable[..., Outcome]
TEST = {"top1": 0.9, "loss": 0.4, "images": 359, "epoch": 2, "held_out": True, "intervals": {"top1": [0.85, 0.95]}}


def changed(file: Path, **facts: Any) -> None:
    """Change entries of a JSON file; a name such as ``optim__lr`` is an entry of a table."""
    content = read_json(file)
    for name, value in facts.items():
        *tables, key = name.split("__")
        inner = content
        for table in tables:
            inner = inner[table]
        inner[key] = value
    write_json(file, content)


def copied(trained_run: Path, name: str, *, val: float = 0.5, test: float | None = None, **config: Any) -> Path:
    """A copy of a run with other scores and settings."""
    path = shutil.copytree(trained_run, Path("experiments") / name)
    changed(path / "metrics.json", best__val_accuracy=val)
    changed(path / "run.json", fold=int(path.name.removeprefix("fold-")) if path.name.startswith("fold-") else 0)
    if config:
        changed(path / "config.json", **config)
    shutil.rmtree(path / "evaluations", ignore_errors=True)
    if test is not None:
        write_json(path / "evaluations" / "test.json", {**TEST, "top1": test})
    return path


def as_json(outcome: Outcome) -> Any:
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


# --- show ---


def test_a_run_is_shown_with_what_differs_from_its_recipe(run_cli: RunCli, trained_run: Path) -> None:
    path = copied(trained_run, "mine", val=0.625, test=0.9, optim__lr=0.125, teacher__name="old")
    report = as_json(run_cli("runs", "show", "mine", "--json"))
    settings = {each["setting"]: (each["value"], each["usual"]) for each in report["settings"]}
    assert settings["optim.lr"] == (0.125, 0.02)
    assert settings["optim.epochs"] == (2, 60)
    assert not {"run.name", "run.device", "data.name", "optim.batch_size"} & settings.keys()
    assert (report["row"]["status"], report["row"]["val_accuracy"]) == ("finished", 0.625)
    assert (report["classes"], report["images"]["test"], report["planned_epochs"]) == (10, 359, 2)
    assert (report["teacher"], report["best"]["val_accuracy"]) == ("old", 0.625)
    assert report["files"]["metrics.csv"] == (path / "metrics.csv").stat().st_size
    (evaluation,) = report["evaluations"]
    assert (evaluation["name"], evaluation["top1"], evaluation["top1_interval"]) == ("test", 0.9, [0.85, 0.95])
    shown = run_cli("runs", "show", path)
    lines = [line.split() for line in shown.out.splitlines()]
    assert ["optim.lr", "0.125", "0.02"] in lines
    assert ["repeat", "vit", "train", "--from-run", "mine"] in lines
    assert ["test", "359", "90.00", "%", "-", "-", "0.4000"] in lines
    assert "95 % interval of top-1: [85.00 % - 95.00 %]" in shown.out


def test_of_many_files_in_a_folder_the_number_is_shown(run_cli: RunCli, trained_run: Path) -> None:
    path = copied(trained_run, "mine")
    for number in range(20):
        path.joinpath("attention").mkdir(exist_ok=True)
        path.joinpath(f"attention/{number}.png").write_bytes(b"12345")
    assert re.search(r"attention/19.png +5 bytes", run_cli("runs", "show", path).out)
    path.joinpath("attention/20.png").write_bytes(b"12345")
    shown = run_cli("runs", "show", path).out
    assert re.search(r"attention/ +21 files, 105 bytes", shown)
    assert "attention/2" not in shown
    assert "metrics.csv" in shown


def test_sizes_that_the_name_of_the_model_says_are_no_settings_that_differ(run_cli: RunCli, trained_run: Path) -> None:
    path = copied(trained_run, "four", model__name="vit-nano-patch4", model__patch_size=[4, 4])
    info = json.loads((path / "run.json").read_text())
    write_json(path / "run.json", {**info, "model": "vit-nano-patch4"})
    settings = {each["setting"]: each for each in as_json(run_cli("runs", "show", "four", "--json"))["settings"]}
    assert (settings["model.name"]["value"], settings["model.name"]["usual"]) == ("vit-nano-patch4", "vit-nano-patch2")
    assert "model.patch_size" not in settings
    assert settings["model.depth"]["value"] == 1, "the recipe has 2"
    sizes = "width 16, depth 1, num_heads 2, mlp_width 32"
    assert as_json(run_cli("runs", "show", "four", "--json"))["row"]["changed_sizes"] == sizes
    assert f"model       vit-nano-patch4 ({sizes}), " in run_cli("runs", "show", "four").out
    assert f", vit-nano-patch4 ({sizes}), recipe digits" in run_cli("runs").out
    for sizes, name in (([4, 2], "vit-nano-patch4x2"), ([4, 4], "vit-nano-patch4")):
        other = copied(trained_run, name, model__patch_size=sizes)
        info = json.loads((other / "run.json").read_text())
        write_json(other / "run.json", {**info, "model": name})
        settings = {each["setting"]: each for each in as_json(run_cli("runs", "show", name, "--json"))["settings"]}
        assert (settings["model.patch_size"]["value"], settings["model.patch_size"]["usual"]) == (sizes, [2, 2])


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"name": "vit-mini-patch6", "image_size": [48, 48], "depth": 2}, "depth 2"),
        ({"name": "vit-mini-patch6", "width": 64, "depth": 6, "num_registers": 0}, ""),
        ({"name": "vit-mini-patch6", "mlp_conv": 3}, "mlp_conv 3"),
    ],
)
def test_only_sizes_that_differ_from_those_of_the_name_are_changes(model: dict[str, Any], said: str) -> None:
    assert changed_sizes("vit-mini-patch6", model) == said


def test_an_evaluation_of_another_epoch_is_said_to_be_outdated(run_cli: RunCli, trained_run: Path) -> None:
    path = copied(trained_run, "mine", test=0.9)
    changed(path / "evaluations" / "test.json", epoch=1, held_out=False)
    said = run_cli("runs", "show", "mine").err
    assert (
        "test: the run was trained further after this evaluation; `vit eval --model experiments/mine` evaluates it"
        in said
    )
    assert "test: not held out" in said


@pytest.mark.parametrize(
    ("stem", "facts", "command"),
    [
        ("test-flip", {"views": "flip", "part": "test"}, "vit eval --model {run} --tta flip"),
        ("val", {"part": "val"}, "vit eval --model {run} --split val"),
        ("test-last", {"checkpoint": "last.safetensors"}, "vit eval --model {run}/checkpoints/last.safetensors"),
        (
            "my-photos-val-shared",
            {"part": "val", "dataset": "my photos", "data": "/my photos", "class_choice": "shared"},
            "vit eval '/my photos' --model {run} --split val --classes shared",
        ),
        ("test-test", {"part": "test", "dataset": "test", "data": "test"}, "vit eval test --model {run}"),
        ("photos-all", {"part": "all", "dataset": "photos"}, "vit eval photos --model {run}"),
        ("photos-all", {}, "vit eval --model {run}"),
        (
            "photos-all",
            {"part": "all", "dataset": "photos", "data": "/photos", "table": ["--labels", "/my labels.csv"]},
            "vit eval /photos --labels '/my labels.csv' --model {run}",
        ),
    ],
)
def test_the_command_of_an_evaluation_stores_the_same_one_again(
    run_cli: RunCli, trained_run: Path, stem: str, facts: dict[str, Any], command: str
) -> None:
    path = copied(trained_run, "mine")
    write_json(path / "evaluations" / f"{stem}.json", {**TEST, **facts})
    (evaluation,) = as_json(run_cli("runs", "show", "mine", "--json"))["evaluations"]
    assert evaluation["command"] == command.format(run="experiments/mine")


def test_a_run_with_broken_files_is_shown_as_far_as_it_is_readable(run_cli: RunCli, trained_run: Path) -> None:
    path = copied(trained_run, "mine")
    (path / "config.json").write_text("{")
    (path / "evaluations").mkdir()
    (path / "evaluations" / "test.json").write_text("[]")
    outcome = run_cli("runs", "show", "mine")
    assert outcome.code == 0, outcome.err
    assert "digits: 10 classes" in outcome.out
    assert f"{path / 'config.json'} is broken" in outcome.err
    assert f"{path / 'evaluations' / 'test.json'} cannot be read" in outcome.err


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"hardware": "x"}, "hardware is text, not an object or null"),
        ({"hardware": {"gpus": None}}, "hardware.gpus is null, not a list"),
        ({"images": {}}, "train is missing in images"),
        ({"command": None}, "command is null, not a list"),
        ({"git_commit": 5}, "git_commit is a whole number, not text or null"),
    ],
)
def test_a_run_with_facts_of_another_kind_is_called_broken(
    run_cli: RunCli, trained_run: Path, facts: dict[str, Any], said: str
) -> None:
    changed(copied(trained_run, "mine") / "run.json", **facts)
    outcome = run_cli("runs", "show", "mine")
    assert outcome.code == 1
    assert f"run.json is not a file of vit, or is broken: {said}" in outcome.err


@pytest.mark.parametrize(
    "settings", [{"data": None}, {"optim": []}, {"model__name": [None]}, {"teacher__name": 5}, {"run__init_from": None}]
)
def test_settings_of_another_kind_are_called_broken(
    run_cli: RunCli, trained_run: Path, settings: dict[str, Any]
) -> None:
    path = copied(trained_run, "mine", **settings)
    for words in (("show", "mine"), ("best", "--data", "digits"), ()):
        outcome = run_cli("runs", *words)
        assert outcome.code in {0, 1}
        assert f"{path / 'config.json'} is broken" in outcome.err


def test_the_usual_epochs_are_those_for_the_number_of_images(run_cli: RunCli, trained_run: Path) -> None:
    changed(
        copied(trained_run, "mine") / "run.json", recipe="small-photos", images={"train": 1500, "val": 1, "test": 0}
    )
    (epochs,) = [
        each["usual"]
        for each in as_json(run_cli("runs", "show", "mine", "--json"))["settings"]
        if each["setting"] == "optim.epochs"
    ]
    assert epochs == 100, "150,000 images are seen, and not 20 epochs"


def test_a_run_is_shown_without_its_recipe(run_cli: RunCli, trained_run: Path) -> None:
    changed(copied(trained_run, "mine") / "run.json", recipe="/gone/tuned.toml")
    outcome = run_cli("runs", "show", "mine")
    assert outcome.code == 0, outcome.err
    assert "there is no recipe '/gone/tuned.toml' now, so settings are compared with the defaults" in outcome.err


def test_a_cross_validation_is_shown_with_its_folds(run_cli: RunCli, trained_run: Path) -> None:
    for fold, accuracy in ((1, 0.5), (2, 0.75)):
        copied(trained_run, f"cv/fold-{fold}", val=accuracy, data__folds=2, data__fold=fold)
    report = as_json(run_cli("runs", "show", "cv", "--json"))
    assert [row["name"] for row in report["runs"]] == ["cv/fold-1", "cv/fold-2"]
    assert (report["row"]["val_accuracy"], report["row"]["status"], report["best"]) == (0.625, "finished", None)
    assert "data.fold" not in {each["setting"] for each in report["settings"]}


def test_options_before_a_subcommand_count(run_cli: RunCli, trained_run: Path) -> None:
    words = ("runs", "--output-dir", trained_run.parent)
    assert as_json(run_cli(*words, "--json", "show", "shared"))["row"]["name"] == "shared"
    assert as_json(run_cli("runs", "--json", "show", "shared", "--output-dir", trained_run.parent))
    assert run_cli("runs", "-o", trained_run.parent, "show", "shared").code == 0


@pytest.mark.parametrize(("command", "needs"), [("compare", "RUN"), ("rename", "RUN")])
def test_a_name_that_is_missing_is_asked_for(run_cli: RunCli, command: str, needs: str) -> None:
    outcome = run_cli("runs", command)
    assert outcome.code == 2
    assert f"error: vit runs {command} needs {needs}" in outcome.err


def test_without_a_name_the_newest_run_is_shown(run_cli: RunCli, trained_run: Path) -> None:
    assert "no run in experiments" in run_cli("runs", "show").err
    for name, started in (("old", "2001"), ("fold-1", "2003"), ("new", "2002")):
        path = Path("crossed") / name if name == "fold-1" else Path(name)
        changed(copied(trained_run, str(path)) / "run.json", started=started, status="interrupted")
    outcome = run_cli("runs", "show")
    assert (outcome.code, outcome.err.splitlines()[0]) == (0, "run: the newest, crossed")


@pytest.mark.parametrize("words", [("show", "shard"), ("show", "")])
def test_a_run_that_does_not_exist_is_named(run_cli: RunCli, trained_run: Path, words: tuple[str, ...]) -> None:
    outcome = run_cli("runs", *words, "--output-dir", trained_run.parent)
    assert outcome.code == 1
    assert outcome.err.startswith(f"error: no run {words[1]!r} in {trained_run.parent}")
    assert "shared" in outcome.err or not words[1]


# --- compare ---


@pytest.fixture(scope="module")
def evaluated(run_cli: RunCli, trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the trained run with a stored evaluation on the test split, and no other."""
    path = shutil.copytree(trained_run, tmp_path_factory.mktemp("evaluated") / "one")
    shutil.rmtree(path / "evaluations", ignore_errors=True)  # another test may have evaluated the shared run
    assert run_cli("eval", "--model", path).code == 0
    return path


def second_run(evaluated: Path, name: str, answers: dict[int, str], **config: Any) -> Path:
    """A copy of the evaluated run with other answers to some images, by row."""
    path = shutil.copytree(evaluated, Path("experiments") / name)
    changed(path / "config.json", **config)
    rows = rows_of(path)
    for at, prediction in answers.items():
        rows[at]["prediction"] = prediction
    write_rows(path, rows)
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with (path / "evaluations" / "test-predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    write_csv(path / "evaluations" / "test-predictions.csv", rows)
    changed(path / "evaluations" / "test.json", images=len(rows))


def test_runs_are_compared_on_the_same_images(run_cli: RunCli, evaluated: Path) -> None:
    rows = rows_of(evaluated)
    right = [at for at, row in enumerate(rows) if row["truth"] == row["prediction"]]
    wrong = [at for at, row in enumerate(rows) if row["truth"] != row["prediction"]]
    gained, lost = wrong[:5], right[:2]
    second_run(evaluated, "one", {})
    answers = {at: rows[at]["truth"] for at in gained} | {at: "9" if rows[at]["truth"] != "9" else "8" for at in lost}
    second_run(evaluated, "two", answers, optim__lr=0.125, run__name="two")
    result = as_json(run_cli("runs", "compare", "one", "two", "--json"))
    assert result["settings"] == [{"setting": "optim.lr", "values": [0.02, 0.125]}]
    (pair,) = result["pairs"]
    found = pair["comparison"]
    assert (found["images"], found["only_first"], found["only_second"]) == (359, 2, 5)
    assert found["differences"][0]["difference"] == pytest.approx(3 / 359)
    changes = {each["path"]: each["change"] for each in pair["changed"]}
    assert changes == {rows[at]["path"]: "gained" for at in gained} | {rows[at]["path"]: "lost" for at in lost}
    with Path(result["table"]).open(newline="") as file:
        assert {row["path"]: row["change"] for row in csv.DictReader(file)} == changes
    assert Path(result["figure"]) == Path("experiments/comparisons/one-vs-two/curves.png")
    assert Path(result["figure"]).is_file()
    shown = run_cli("runs", "compare", "one", "two")
    assert "chance may explain the difference: +0.8 points [" in shown.out
    assert "] for two on 359 images" in shown.out
    assert "5 right only in two, 2 only in one" in shown.out
    assert re.search(r"two compared with one, 359 images of test\s+metric +one +two +change", shown.out)
    assert "p = 0.453, so chance may explain the difference" in shown.out
    assert shown.err == ""


@pytest.mark.parametrize("names", [("worse", "better"), ("better", "worse")])
def test_the_better_run_is_named(run_cli: RunCli, evaluated: Path, names: tuple[str, str]) -> None:
    rows = rows_of(evaluated)
    right = [at for at, row in enumerate(rows) if row["truth"] == row["prediction"]]
    second_run(evaluated, "better", {})
    second_run(evaluated, "worse", {at: "9" if rows[at]["truth"] != "9" else "8" for at in right[:18]})
    shown = " ".join(run_cli("runs", "compare", *names).out.split())
    points = re.search(r"verdict better is better: \+5\.0 points \[(.*?), (.*?)\] on 359 images", shown)
    assert points, shown
    assert 0 < float(points[1]) < 5 < float(points[2])
    assert run_cli("report", *names, "-o", "both.html", "--worst", "0").code == 0
    page = Path("both.html").read_text(encoding="utf-8")
    assert f"<p>{points[0].removeprefix('verdict ')}.</p><p>" in page
    assert "(first)" not in page


def test_more_than_two_runs_are_each_compared_with_the_first(run_cli: RunCli, evaluated: Path) -> None:
    for name in ("one", "two", "three"):
        second_run(evaluated, name, {})
    outcome = run_cli("runs", "compare", "one", "two", "three", "experiments/one", "--json", "-o", "here")
    result = as_json(outcome)
    assert result["runs"] == ["one", "two", "three"]
    assert [(pair["first"], pair["second"]) for pair in result["pairs"]] == [("one", "two"), ("one", "three")]
    assert (result["settings"], result["figure"]) == ([], "here/curves.png")
    assert "all settings are the same" in run_cli("runs", "compare", "one", "two").out


def test_a_missing_or_outdated_evaluation_is_named_with_its_command(
    run_cli: RunCli, evaluated: Path, trained_run: Path
) -> None:
    second_run(evaluated, "one", {})
    changed(second_run(evaluated, "old", {}) / "evaluations" / "test.json", epoch=1)
    copied(trained_run, "none")
    outcome = run_cli("runs", "compare", "one", "none", "old", "--json")
    result = as_json(outcome)
    assert (result["pairs"], result["table"]) == ([], None)
    assert result["missing"] == {"none": "vit eval --model none", "old": "vit eval --model old"}
    assert result["why_missing"] == {
        "none": "has not been evaluated on these images",
        "old": "was trained further after it was evaluated on these images",
    }
    said = "none has not been evaluated on these images. To evaluate it, type `vit eval --model none`"
    assert said in " ".join(run_cli("runs", "compare", "one", "none").err.split())
    missing = as_json(run_cli("runs", "compare", "one", "none", "--split", "val", "--json"))["missing"]
    assert missing["one"] == "vit eval --model one --split val"


@pytest.mark.parametrize(
    ("status", "is_alive", "said"),
    [
        ("running", True, "it is still running, after 2 of 9 epochs"),
        ("running", False, "its training has stopped: killed, after 2 of 9 epochs"),
        ("interrupted", False, "its training has stopped: interrupted, after 2 of 9 epochs"),
    ],
)
def test_a_run_without_an_evaluation_whose_training_has_not_finished_is_named(
    run_cli: RunCli, evaluated: Path, trained_run: Path, *, status: str, is_alive: bool, said: str
) -> None:
    second_run(evaluated, "one", {})
    other = copied(trained_run, "other")
    changed(other / "run.json", status=status)
    changed(other / "config.json", optim__epochs=9)
    with alone_in(other, otherwise=RunError("locked")) if is_alive else nullcontext():
        shown = run_cli("runs", "compare", "one", "other")
    assert shown.code == 0
    assert f"other has not been evaluated on these images; {said}. To evaluate it" in " ".join(shown.err.split())


def test_the_evaluation_that_shares_most_images_is_compared(run_cli: RunCli, evaluated: Path) -> None:
    second_run(evaluated, "one", {})
    folder = second_run(evaluated, "two", {}) / "evaluations"
    for end in (".json", "-predictions.csv"):
        shutil.copy(folder / f"test{end}", folder / f"digits-all{end}")
    write_rows(folder.parent, rows_of(folder.parent)[:9])
    (pair,) = as_json(run_cli("runs", "compare", "one", "two", "--json"))["pairs"]
    assert (pair["evaluations"], pair["comparison"]["images"]) == (["test", "digits-all"], 359)


def second_evaluation(name: str, stem: str, **facts: Any) -> None:
    """A copy of the test evaluation of a run, under another name and with other facts; it replaces that one."""
    folder = Path("experiments") / name / "evaluations"
    for end in (".json", "-predictions.csv"):
        (folder / f"test{end}").rename(folder / f"{stem}{end}")
    changed(folder / f"{stem}.json", **facts)


@pytest.mark.parametrize(
    ("stem", "facts", "said"),
    [
        ("test-flip", {"views": "flip"}, "views none and flip"),
        ("test-last", {"checkpoint": "last.safetensors", "epoch": 1}, "checkpoint best and last"),
        ("test-shared", {"class_choice": "shared"}, "classes all and shared"),
    ],
)
def test_only_evaluations_in_the_same_way_are_compared_unless_asked_for(
    run_cli: RunCli, evaluated: Path, stem: str, facts: dict[str, Any], said: str
) -> None:
    second_run(evaluated, "one", {})
    second_run(evaluated, "two", {})
    second_evaluation("two", stem, **facts)
    result = as_json(run_cli("runs", "compare", "one", "two", "--json"))
    assert (result["pairs"], result["missing"]) == ([], {"two": "vit eval --model two"})
    outcome = run_cli("runs", "compare", "one", "two", "--split", stem, "--json")
    assert as_json(outcome)["pairs"][0]["evaluations"] == ["test", stem]
    assert f"one and two were not evaluated in the same way: {said}" in outcome.err
    for name in ("one", "two"):  # earlier versions did not store the choice of classes
        content = read_json(Path(f"experiments/{name}/evaluations/{'test' if name == 'one' else stem}.json"))
        content.pop("class_choice")
        write_json(Path(f"experiments/{name}/evaluations/{'test' if name == 'one' else stem}.json"), content)
    second_evaluation("one", stem)
    changed(
        Path(f"experiments/one/evaluations/{stem}.json"), **{key: facts[key] for key in facts if "class" not in key}
    )
    outcome = run_cli("runs", "compare", "one", "two", "--json")
    assert as_json(outcome)["pairs"][0]["evaluations"] == [stem, stem]
    assert outcome.err == ""


def test_a_broken_evaluation_is_not_replaced_by_another(run_cli: RunCli, evaluated: Path) -> None:
    for name in ("one", "two"):
        folder = second_run(evaluated, name, {}) / "evaluations"
        for end in (".json", "-predictions.csv"):
            shutil.copy(folder / f"test{end}", folder / f"val{end}")
    Path("experiments/two/evaluations/test.json").write_text("[")
    outcome = run_cli("runs", "compare", "one", "two")
    assert outcome.code == 1
    assert "experiments/two/evaluations/test.json cannot be read" in outcome.err
    assert "`vit eval --model two` writes it again" in outcome.err
    assert run_cli("runs", "compare", "one", "two", "--split", "val").code == 0


def test_a_calibrated_run_beside_one_that_is_not_is_named(run_cli: RunCli, evaluated: Path) -> None:
    second_run(evaluated, "one", {})
    changed(second_run(evaluated, "two", {}) / "evaluations" / "test.json", calibrated=1, temperature=1.5)
    said = "the probabilities of two are calibrated, those of one are not: part of the difference in loss"
    assert said in run_cli("runs", "compare", "one", "two").err
    changed(Path("experiments/one/evaluations/test.json"), calibrated=1, temperature=1.2)
    assert run_cli("runs", "compare", "one", "two").err == ""


def test_images_of_one_run_alone_are_left_out_and_counted(run_cli: RunCli, evaluated: Path) -> None:
    second_run(evaluated, "one", {})
    other = second_run(evaluated, "two", {})
    rows = rows_of(other)
    rows[3]["truth"] = "another label"
    write_rows(other, rows[:-4])
    outcome = run_cli("runs", "compare", "one", "two", "--json")
    (pair,) = as_json(outcome)["pairs"]
    assert (pair["only_in_first"], pair["only_in_second"], pair["labelled_differently"]) == (4, 0, 1)
    assert pair["comparison"]["images"] == 354
    left_out = "4 only of one, 0 only of two, 1 that have another label now"
    assert f"only 354 images are compared, on which both were evaluated; left out: {left_out}" in outcome.err


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"dataset": "mnist", "fingerprint": "other"}, "different images (test): digits and mnist"),
        ({"fingerprint": "other"}, "different images (test): digits and digits, which has changed in between"),
        ({"found_in": "train"}, "different images (test)"),
    ],
)
def test_different_images_are_not_compared_as_if_they_were_the_same(
    run_cli: RunCli, evaluated: Path, facts: dict[str, str], said: str
) -> None:
    second_run(evaluated, "one", {})
    changed(second_run(evaluated, "two", {}) / "evaluations" / "test.json", **facts)
    outcome = run_cli("runs", "compare", "one", "two")
    assert outcome.code == 1
    assert said in outcome.err
    assert "hint: `vit eval --model two` evaluates it on the images of the other" in outcome.err, "they are its own"
    changed(Path("experiments/one/evaluations/test.json"), data="/my photos/few", fingerprint="few")
    changed(Path("experiments/two/evaluations/test.json"), data="/gone", fingerprint="many", dataset="gone")
    outcome = run_cli("runs", "compare", "one", "two")
    assert "hint: `vit eval '/my photos/few' --model two`" in outcome.err, "a folder is named by its path"


@pytest.fixture(scope="module")
def trained_on_photos(
    run_cli: RunCli, image_folder: Callable[..., Path], data_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with photos, their copy and others, and the runs one and two that were trained on the first and the last."""
    root = tmp_path_factory.mktemp("photos")
    where = ("--output-dir", root / "experiments", "--data-dir", data_dir)
    for name, photos, count in (("one", "photos", 10), ("two", "others", 12)):
        image_folder(root / photos, {"cat": count, "dog": count})
        words = ("train", root / photos, *TINY, "--test-fraction", "0.3", "--name", name)
        assert run_cli(*words, *where).code == 0
    shutil.copytree(root / "photos", root / "copy")
    return root


@pytest.fixture
def two_folders(trained_on_photos: Path) -> Path:
    """Runs one and two, trained on different photos of the same classes; the folder has a copy of those of the first."""
    shutil.copytree(trained_on_photos / "experiments", "experiments")
    return trained_on_photos


def test_the_same_images_are_compared_whatever_the_data_are_called(run_cli: RunCli, two_folders: Path) -> None:
    assert run_cli("eval", "--model", "one").code == 0
    assert run_cli("eval", two_folders / "copy", "--model", "two").code == 0
    assert run_cli("eval", "--model", "two").code == 0, "its own images are others, though they are called the same"
    outcome = run_cli("runs", "compare", "one", "two", "--json")
    (pair,) = as_json(outcome)["pairs"]
    assert pair["evaluations"] == ["test", "copy-all"]
    assert pair["comparison"]["images"] == len(rows_of(Path("experiments/one")))
    (pair,) = as_json(run_cli("runs", "compare", "two", "one", "--split", "copy-all", "--json"))["pairs"]
    assert pair["evaluations"] == ["copy-all", "test"]
    shown = run_cli("runs", "compare", "one", "two")
    assert "test of one, copy-all of two" in shown.out


def test_hints_name_the_table_of_labels_too(run_cli: RunCli, two_folders: Path) -> None:
    """Of a table that is beside the images, and was named from another folder."""
    files = [*(two_folders / "copy").glob("*/*.png")]
    Path("table").mkdir()
    for path in files:
        shutil.copy(path, f"table/{path.parent.name}-{path.name}")
    rows = [f"{path.parent.name}-{path.name},{path.parent.name}" for path in files]
    Path("table/my labels.csv").write_text("\n".join(["file,class", *rows]))
    assert run_cli("eval", "table", "--labels", "my labels.csv", "--model", "one").code == 0
    outcome = run_cli("runs", "compare", "one", "two", "--split", "table-all")
    (command,) = re.findall("`(vit eval .*?)`", outcome.err)
    assert "--labels" in command
    Path("elsewhere").mkdir()
    os.chdir("elsewhere")
    where = ("--output-dir", "../experiments")
    assert run_cli(*shlex.split(command)[1:], *where).code == 0
    (pair,) = as_json(run_cli("runs", "compare", "one", "two", "--split", "table-all", *where, "--json"))["pairs"]
    assert pair["comparison"]["images"] == len(files)


@pytest.mark.usefixtures("two_folders")
@pytest.mark.parametrize("already", [("one", "two"), ("one",), ("two",), ()])
def test_one_hint_for_each_missing_evaluation_leads_to_a_comparison(run_cli: RunCli, already: tuple[str, ...]) -> None:
    for name in already:
        assert run_cli("eval", "--model", name).code == 0
    outcome = run_cli("runs", "compare", "one", "two")
    commands = re.findall("`(vit eval .*?)`", outcome.err)
    assert len(commands) == max(2 - len(already), 1)
    for command in commands:
        assert run_cli(*shlex.split(command)[1:]).code == 0
    compared = as_json(run_cli("runs", "compare", "one", "two", "--json"))
    assert compared["pairs"][0]["comparison"]["images"] > 5
    assert compared["missing"] == {}


def test_a_cross_validation_is_compared_by_its_out_of_fold_predictions(
    run_cli: RunCli, image_folder: Callable[..., Path]
) -> None:
    image_folder(Path("photos"), {"cat": 10, "dog": 10})
    words = ("train", "photos", *TINY, "--test-fraction")
    assert run_cli(*words, "0", "--folds", "2", "--name", "crossed").code == 0
    assert run_cli(*words, "0", "--folds", "2", "--name", "again", "--seed", "1").code == 0
    assert run_cli(*words, "0.3", "--name", "single").code == 0
    missing = as_json(run_cli("runs", "compare", "crossed", "again", "--json"))["missing"]
    assert missing == {name: f"vit eval --model {name} --split val" for name in ("crossed", "again")}
    for name in ("crossed", "again", "single"):
        assert run_cli("eval", "--model", name).code == 0
    shown = run_cli("runs", "compare", "crossed", "again")
    assert "out-of-fold predictions, 20 images" in " ".join(shown.out.split())
    assert "chose the epoch of crossed and again" in shown.err
    (pair,) = as_json(run_cli("runs", "compare", "single", "crossed", "--json"))["pairs"]
    assert (pair["evaluations"], pair["comparison"]["images"]) == (["test", "out-of-fold"], 6)


def test_files_of_data_that_changed_are_matched_by_name_which_is_said(run_cli: RunCli, evaluated: Path) -> None:
    for name, start in (("one", 0), ("two", 9)):
        path = second_run(evaluated, name, {})
        write_rows(path, [{**row, "path": f"photos/{row['path']}.png"} for row in rows_of(path)[start:]])
        changed(path / "evaluations" / "test.json", fingerprint=name)
    outcome = run_cli("runs", "compare", "one", "two", "--json")
    assert as_json(outcome)["pairs"][0]["comparison"]["images"] == 350
    assert "changed between the evaluations of one and two: they are matched by their names" in outcome.err
    write_rows(Path("experiments/two"), rows_of(Path("experiments/one"))[:9])
    write_rows(Path("experiments/one"), rows_of(Path("experiments/one"))[9:])
    outcome = run_cli("runs", "compare", "one", "two")
    assert outcome.code == 1
    assert "they share none of 350 and 9" in outcome.err
    other = [{**row, "truth": "another class"} for row in rows_of(Path("experiments/two"))]
    write_rows(Path("experiments/one"), other)
    outcome = run_cli("runs", "compare", "one", "two")
    assert "all 9 images that they share have another label now" in outcome.err


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (0, "is broken: 0 rows instead of 359"),
        (9, "is broken: 8 rows instead of 359"),
        ("path,truth\n1,2\n", "is not a table of predictions, or is broken"),
        ("path,truth,prediction,loss\n1,2,3,x\n", "is not a table of predictions, or is broken"),
    ],
)
def test_a_broken_table_is_named(run_cli: RunCli, evaluated: Path, rows: int | str, said: str) -> None:
    second_run(evaluated, "one", {})
    table = second_run(evaluated, "two", {}) / "evaluations" / "test-predictions.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(lines[:rows]) if isinstance(rows, int) else rows)
    outcome = run_cli("runs", "compare", "one", "two")
    assert outcome.code == 1
    assert f"error: {table} {said}" in outcome.err
    assert "hint: `vit eval --model two` writes it again" in outcome.err


def test_one_odd_run_does_not_end_the_comparison_of_the_others(run_cli: RunCli, evaluated: Path) -> None:
    for name in ("one", "two", "odd", "cut"):
        second_run(evaluated, name, {})
    changed(Path("experiments/odd/evaluations/test.json"), dataset="mnist", fingerprint="other")
    Path("experiments/cut/evaluations/test.json").write_text("[")
    outcome = run_cli("runs", "compare", "one", "odd", "two", "cut", "--json")
    result = as_json(outcome)
    assert [pair["second"] for pair in result["pairs"]] == ["two"]
    broken, odd = result["not_compared"]
    assert (
        odd == "odd is not compared with one: one and odd were evaluated on different images (test): digits and mnist"
    )
    assert broken.startswith("cut is not compared with one: experiments/cut/evaluations/test.json cannot be read")
    assert f"warning: {odd}; `vit eval --model odd` evaluates it on the images of the other" in outcome.err
    assert run_cli("runs", "compare", "one", "odd", "cut").code == 1
    assert run_cli("runs", "compare", "cut", "one", "two").code == 1


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ("tset", "hint: did you mean 'test'?"),
        ("flat", "hint: did you mean 'flat-all'?"),
        ("foo", "hint: --split takes flat-all, out-of-fold, test, train, val"),
        ("out-of-fold", "none of the runs is a cross-validation"),
    ],
)
def test_an_evaluation_that_no_run_can_have_is_refused(run_cli: RunCli, evaluated: Path, split: str, said: str) -> None:
    for name in ("one", "two"):
        second_run(evaluated, name, {})
        second_evaluation(name, "flat-all", part="all")
    outcome = run_cli("runs", "compare", "one", "two", "--split", split)
    assert outcome.code == 1
    assert said in outcome.err


def test_images_that_had_a_part_in_training_are_named_again(run_cli: RunCli, evaluated: Path) -> None:
    second_run(evaluated, "one", {})
    changed(second_run(evaluated, "two", {}) / "evaluations" / "test.json", trained_on=9, chose_epoch_by=1)
    said = run_cli("runs", "compare", "one", "two").err
    assert "warning: two was trained on 9 images of digits: its scores are too high" in said
    assert "warning: 1 image of digits chose the epoch of two: its scores are too high" in said
    assert "one was trained on" not in said


def test_a_group_of_seeds_is_not_sent_to_evaluate_validation_images(run_cli: RunCli, evaluated: Path) -> None:
    second_run(evaluated, "one", {})
    for seed in (1, 2):
        path = second_run(evaluated, f"pair/seed-{seed}", {})
        changed(path / "run.json", nth_seed=seed)
        changed(path / "split.json", held_out__val=[seed])
    outcome = run_cli("runs", "compare", "one", "pair", "--split", "val")
    assert outcome.code == 1
    assert "pair is a group of seeds whose runs do not hold out the same val images" in outcome.err
    assert "so it is compared on test images\nhint: name one of its runs: pair/seed-1" in outcome.err
    missing = as_json(run_cli("runs", "compare", "one", "pair", "--json"))["missing"]
    assert missing == {"pair": "vit eval --model pair"}
    for seed in (1, 2):
        changed(Path(f"experiments/pair/seed-{seed}/split.json"), held_out__val=[3])
    missing = as_json(run_cli("runs", "compare", "one", "pair", "--split", "val", "--json"))["missing"]
    assert missing["pair"] == "vit eval --model pair --split val"


def test_runs_are_compared_on_classes_that_both_know(run_cli: RunCli, image_folder: Callable[..., Path]) -> None:
    for name, kinds in (("pets", ("cat", "dog", "eel")), ("more", ("cat", "dog", "fox")), ("cars", ("bus", "van"))):
        image_folder(Path(name), dict.fromkeys(kinds, 10))
        assert run_cli("train", name, *TINY, "--test-fraction", "0.3", "--name", f"of-{name}").code == 0
    assert run_cli("eval", "--model", "of-pets").code == 0
    outcome = run_cli("runs", "compare", "of-pets", "of-cars")
    assert outcome.code == 1
    assert "of-pets and of-cars have no class in common, so they cannot be compared" in outcome.err
    assert "vit eval" not in outcome.err
    (command,) = as_json(run_cli("runs", "compare", "of-pets", "of-more", "--json"))["missing"].values()
    assert command == f"vit eval {Path('pets').resolve()} --model of-more --split train --classes shared"
    assert run_cli(*shlex.split(command)[1:]).code == 0
    outcome = run_cli("runs", "compare", "of-pets", "of-more", "--json")
    assert as_json(outcome)["pairs"][0]["comparison"]["images"] == 6
    assert "were not evaluated in the same way: classes all and shared" in outcome.err


def test_hints_name_the_folder_of_all_runs(run_cli: RunCli, evaluated: Path) -> None:
    shutil.copytree(evaluated, "elsewhere/one")
    words = ("runs", "compare", "--output-dir", "elsewhere")
    assert "hint: `vit runs --output-dir elsewhere` lists the runs" in run_cli(*words, "one", "xyz").err
    said = run_cli(*words, "one", "one").err
    assert "vit runs compare A B --output-dir elsewhere; `vit runs --output-dir elsewhere` lists the runs" in said


def test_python_compares_results(evaluated: Path) -> None:
    second_run(evaluated, "two", {})
    result = vitcli.compare([evaluated, "two"], quiet=True)
    assert repr(result) == "<RunsComparison with one, test: two +0.00 points>"
    with pytest.raises(vitcli.VitError, match="two different runs are needed"):
        vitcli.compare(evaluated, evaluated, quiet=True)
    with pytest.raises(vitcli.VitError, match=r"runs = \[\] is empty"):
        vitcli.report([], quiet=True)


# --- list and best ---


@pytest.fixture
def several(trained_run: Path) -> None:
    """Three runs on the digits, one on other data, one that was killed, and a cross-validation."""
    copied(trained_run, "good", val=0.9, test=0.7, optim__lr=0.125)
    copied(trained_run, "better", val=0.95, optim__lr=0.25)
    copied(trained_run, "known", val=0.8, test=0.75)
    changed(copied(trained_run, "seen", val=0.1, test=1.0) / "evaluations" / "test.json", held_out=False)
    Run(copied(trained_run, "killed", val=1.0)).note(status="running")
    Run(copied(trained_run, "other", val=0.99)).note(dataset="mnist", ended="1999")
    for fold, accuracy in ((1, 0.97), (2, 0.91)):
        copied(trained_run, f"cv/fold-{fold}", val=accuracy, data__folds=2, data__fold=fold)


def names_of(outcome: Outcome) -> list[str]:
    return [row["name"] for row in as_json(outcome)]


@pytest.mark.usefixtures("several")
def test_runs_are_sorted_by_a_field_or_a_setting(run_cli: RunCli) -> None:
    singles = ("--filter", "folds=none", "--filter", "name=[!c]*", "--json")
    by_accuracy = ["killed", "other", "better", "good", "known", "seen"]
    assert names_of(run_cli("runs", "--sort", "val_accuracy", *singles)) == by_accuracy
    assert names_of(run_cli("runs", "--sort", "test_accuracy", *singles))[:3] == ["seen", "known", "good"]
    assert names_of(run_cli("runs", "--sort", "optim.lr", *singles))[-2:] == ["good", "better"]
    assert names_of(run_cli("runs", "--sort", "name", *singles)) == sorted(by_accuracy)
    assert names_of(run_cli("runs", "--sort", "ended", *singles))[-1] == "other"
    assert "optim.lr 0.125" in run_cli("runs", "--sort", "optim.lr").out


@pytest.mark.usefixtures("several")
def test_runs_are_filtered_by_fields_and_settings(run_cli: RunCli) -> None:
    for conditions, names in (
        (["optim.lr=0.125"], {"good"}),
        (["optim.lr=1.25e-1", "status=finished"], {"good"}),
        (["model.width=16", "dataset=mnist"], {"other"}),
        (["status=killed"], {"killed"}),
        (["val_accuracy=0.95"], {"better"}),
        (["test_held_out=no"], {"seen"}),
        (["name=cv*"], {"cv", "cv/fold-1", "cv/fold-2"}),
        (["test_accuracy=none", "name=b*"], {"better"}),
        (["tag=none"], set()),
        (["status=*ed", "optim.lr=0.125"], {"good"}),
        (["folds=2.0"], {"cv"}),
    ):
        words = [word for condition in conditions for word in ("--filter", condition)]
        assert set(names_of(run_cli("runs", *words, "--json"))) == names, conditions


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--sort", "val_acuracy"), "did you mean 'val_accuracy'?"),
        (("--sort", "val"), "did you mean 'val_accuracy'?"),
        (("--sort", "optim.lrr"), "did you mean 'optim.lr'?"),
        (("--filter", "optim.lrr=1"), "did you mean 'optim.lr'?"),
        (("--filter", "about.time=1"), "--filter 'about.time' is not a setting"),
        (("--sort", "model.dpeth"), "did you mean 'model.depth'?"),
        (("--filter", "optim.lr=fast"), "optim.lr = 'fast' is not a number"),
        (("--filter", "dataset"), "--filter 'dataset' is not of the form KEY=VALUE"),
        (("--filter", "datset=digits"), "did you mean 'dataset'?"),
        (("--filter", "status=finshed"), "did you mean 'finished'?"),
        (("--filter", "status=x"), "one of running, finished, interrupted, failed, killed, unfinished"),
        (("--filter", "epochs=abc"), "--filter epochs=abc is not a number"),
        (("--filter", "val_accuracy=good"), "give a number, or none for runs without one"),
        (("--filter", "test_held_out=maybe"), "--filter test_held_out=maybe is not one of yes, true, no, false"),
        (("--filter", "dataset=digits", "show", "x"), "--sort and --filter are for the list of runs"),
        (("best", "--metric", "val_acuracy"), "did you mean 'val_accuracy'?"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_with_what_can(run_cli: RunCli, words: tuple[str, ...], said: str) -> None:
    outcome = run_cli("runs", *words)
    assert outcome.code in {1, 2}
    assert said in outcome.err


def test_a_filter_that_nothing_passes_is_not_called_an_empty_folder(run_cli: RunCli, trained_run: Path) -> None:
    copied(trained_run, "mine")
    assert "no such runs in experiments; leave out --filter" in run_cli("runs", "--filter", "name=x").err


@pytest.mark.usefixtures("several")
def test_the_name_of_the_best_run_is_alone_on_stdout(run_cli: RunCli) -> None:
    outcome = run_cli("runs", "best")
    assert (outcome.code, outcome.out) == (0, "better\n")
    assert "the best of 5 on digits by val_accuracy: 95.00 %" in outcome.err
    assert run_cli("runs", "best", "--data", "mnist").out == "other\n"
    assert run_cli("runs", "best", "--data", "some/mnist/").out == "other\n"
    tested = run_cli("runs", "best", "--metric", "test_accuracy")
    assert tested.out == "known\n", "images that were scored in training do not count"
    left_out = [line for line in tested.err.splitlines() if "without a test_accuracy of held-out images" in line]
    assert {"seen", "better", "cv"} == {*left_out[0].partition(": ")[2].split(", ")}
    report = as_json(run_cli("runs", "best", "--metric", "test_loss", "--json"))
    assert (report["metric"], report["value"], report["compared"]) == ("test_loss", 0.4, 2)


def test_of_folders_of_one_name_the_one_that_is_named_counts(
    run_cli: RunCli, tiny: tuple[str, ...], image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    for where in ("a", "b"):
        image_folder(tmp_path / where / "photos", {"left": 6 + ord(where) % 2, "right": 6})
        assert run_cli("train", f"{where}/photos", *tiny, "--name", where).code == 0
    assert [run_cli("runs", "best", "--data", f"{where}/photos").out for where in ("a", "b")] == ["a\n", "b\n"]


@pytest.mark.usefixtures("several")
def test_a_cross_validation_counts_by_its_mean(run_cli: RunCli, trained_run: Path) -> None:
    changed(Path("experiments/better/metrics.json"), best__val_accuracy=0.93)
    assert run_cli("runs", "best").out == "cv\n"
    changed(copied(trained_run, "changed", val=1.0) / "run.json", fingerprint="other")
    Run(Path("experiments/changed")).note(ended="1999")
    outcome = run_cli("runs", "best")
    assert outcome.out == "cv\n"
    assert "digits has changed since 1 of its runs: these are left out" in outcome.err


def test_without_a_run_that_can_be_best_the_error_says_what_to_do(run_cli: RunCli, trained_run: Path) -> None:
    assert "hint: `vit train` makes one" in run_cli("runs", "best").err
    copied(trained_run, "mine")
    outcome = run_cli("runs", "best", "--metric", "test_accuracy")
    assert (outcome.code, outcome.out) == (1, "")
    assert "hint: `vit eval --model experiments/mine` evaluates one" in outcome.err
    assert "did you mean 'digits'?" in run_cli("runs", "best", "--data", "digit").err


# --- tag, rename and delete ---


def listed() -> set[str]:
    return {path.name for path in Path("experiments").iterdir()}


def test_tags_are_added_removed_and_filtered(run_cli: RunCli, trained_run: Path) -> None:
    for name in ("one", "two", "cv/fold-1"):
        copied(trained_run, name)
    assert run_cli("runs", "tag", "one", "paper", "v1.2", "paper").out.split() == ["paper", "v1.2"]
    assert run_cli("runs", "tag", "cv", "paper").out == "paper\n"
    assert as_json(run_cli("runs", "tag", "one", "--json"))["tags"] == ["paper", "v1.2"]
    assert set(names_of(run_cli("runs", "--filter", "tag=paper", "--json"))) == {"one", "cv"}
    assert "tags paper, v1.2" in run_cli("runs").out
    assert "paper, v1.2" in run_cli("runs", "show", "one").out
    assert run_cli("runs", "tag", "one", "paper", "--remove").out == "v1.2\n"
    assert "one has no tag 'v12'" in run_cli("runs", "tag", "one", "v12", "--remove").err
    assert "cannot be a tag" in run_cli("runs", "tag", "one", "a b").err
    assert "two has no tags" in run_cli("runs", "tag", "two").err
    (Path("experiments") / "two" / "tags.json").write_text('{"tags": 3}')
    outcome = run_cli("runs", "--json")
    assert "without its tags" in outcome.err
    assert len(as_json(outcome)) == 4
    (copied(trained_run, "my run") / "tags.json").write_text("{")
    assert "hint: rm 'experiments/my run/tags.json'" in run_cli("runs", "tag", "my run").err


def test_a_run_is_renamed_everywhere(run_cli: RunCli, trained_run: Path) -> None:
    copied(trained_run, "old", run__name="old")
    absolute = str(Path("experiments/old/checkpoints/best.safetensors").resolve())
    copied(trained_run, "by-name", run__init_from="old")
    copied(trained_run, "by-path", teacher__name=absolute)
    copied(trained_run, "apart", run__init_from="deit-tiny")
    outcome = run_cli("runs", "rename", "old", "new")
    assert (outcome.code, outcome.out) == (0, "experiments/new\n"), outcome.err
    assert "by-name names it: run.init_from = new now" in outcome.err
    assert listed() == {"new", "by-name", "by-path", "apart"}
    assert Run(Path("experiments/new")).config["run"]["name"] == "new"
    assert Run(Path("experiments/by-name")).config["run"]["init_from"] == "new"
    moved = Path(Run(Path("experiments/by-path")).config["teacher"]["name"])
    assert moved == Path("experiments/new/checkpoints/best.safetensors").resolve()
    assert Run(Path("experiments/apart")).config["run"]["init_from"] == "deit-tiny"


def test_tags_that_are_added_at_the_same_time_are_all_kept(trained_run: Path) -> None:
    copied(trained_run, "one")
    words = [f"tag-{number}" for number in range(24)]
    with ThreadPoolExecutor(len(words)) as pool:
        list(pool.map(lambda word: tag("one", [word]), words))
    assert {*tag("one").tags} == {*words}


def test_runs_beside_one_that_is_named_by_its_path_follow_its_new_name(run_cli: RunCli, trained_run: Path) -> None:
    copied(trained_run, "../other/base")
    child = copied(trained_run, "../other/child", run__init_from="base")
    assert "child started or learned from it" in run_cli("runs", "delete", "other/base").err
    outcome = run_cli("runs", "rename", "other/base", "base2")
    assert outcome.code == 0, outcome.err
    assert Run(child).config["run"]["init_from"] == "base2"


@pytest.mark.parametrize("file", ["run.json", "study.json", "pretraining.json"])
def test_a_run_that_holds_other_work_at_any_depth_is_not_deleted(run_cli: RunCli, trained_run: Path, file: str) -> None:
    precious = copied(trained_run, "one") / "experiments" / "precious"
    precious.mkdir(parents=True)
    (precious / file).write_text("{}")
    outcome = run_cli("runs", "delete", "one", "--yes")
    assert outcome.code == 1
    assert f"holds other runs too, for example {precious}" in outcome.err
    assert (precious / file).exists()


def test_a_run_with_the_longest_name_is_deleted(run_cli: RunCli, trained_run: Path) -> None:
    copied(trained_run, "n" * 250)
    assert run_cli("runs", "delete", "n" * 250, "--yes").code == 0
    assert listed() == set()


def test_a_cross_validation_is_renamed_and_deleted_as_a_whole(run_cli: RunCli, trained_run: Path) -> None:
    for fold in (1, 2):
        copied(trained_run, f"cv/fold-{fold}", run__name="cv")
    for words in (("rename", "cv/fold-1", "x"), ("delete", "cv/fold-1", "--yes")):
        outcome = run_cli("runs", *words)
        assert outcome.code == 1
        assert "cv/fold-1 belongs to a cross-validation" in outcome.err
        assert "name all of it: cv" in outcome.err
    assert run_cli("runs", "rename", "cv", "crossed").code == 0
    assert Run(Path("experiments/crossed/fold-2")).config["run"]["name"] == "crossed"
    assert run_cli("runs", "delete", "crossed", "--yes").code == 0
    assert listed() == set()


@pytest.mark.parametrize("name", ["taken", "", "a/b", ".hidden", "-x", "..", "link", "best", "猫" * 67])
def test_a_name_that_cannot_be_is_refused(run_cli: RunCli, trained_run: Path, name: str) -> None:
    copied(trained_run, "old")
    (Path("experiments") / "taken").mkdir()
    (Path("experiments") / "link").symlink_to("nowhere")
    outcome = run_cli("runs", "rename", "old", name)
    assert outcome.code in {1, 2}
    assert listed() == {"old", "taken", "link"}


def test_deleting_asks_and_names_what_uses_the_run(
    run_cli: RunCli, trained_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(trained_run, "old")
    copied(trained_run, "student", teacher__name="old")
    outcome = run_cli("runs", "delete", "old")
    assert outcome.code == 1
    assert "student started or learned from it" in outcome.err
    assert "--yes deletes without asking" in outcome.err
    for answer, code, left in (("n", 1, {"old", "student"}), ("y", 0, {"student"})):
        terminal = io.StringIO(f"{answer}\n")
        monkeypatch.setattr(terminal, "isatty", lambda: True)
        monkeypatch.setattr(sys, "stdin", terminal)
        assert run_cli("runs", "delete", "old").code == code
        assert listed() == left


def test_one_run_that_may_not_be_deleted_keeps_all(
    run_cli: RunCli, trained_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(trained_run, "old")
    busy = copied(trained_run, "busy")
    (Path("experiments") / "link").symlink_to(busy.resolve())
    (Path("experiments") / "photos").mkdir()
    copied(trained_run, "cv/fold-1")
    copied(trained_run, "cv/inner")
    with alone_in(busy, otherwise=RunError("busy")):
        for name, said in {
            "busy": "another process is training busy",
            "link": "is a link",
            "photos": "no run 'photos'",
            "cv": "holds other runs too",
        }.items():
            outcome = run_cli("runs", "delete", "old", name, "--yes")
            assert outcome.code == 1
            assert said in outcome.err
    monkeypatch.chdir(Path("experiments/old/checkpoints"))
    assert "is the current folder, one above it" in run_cli("runs", "delete", "../../old", "--yes").err
    monkeypatch.chdir("../../..")
    assert listed() == {"old", "busy", "link", "photos", "cv"}
    assert run_cli("runs", "delete", "old", "busy", "old", "--yes").code == 0
    assert listed() == {"link", "photos", "cv"}


def test_a_training_that_begins_while_the_user_is_asked_is_not_deleted(trained_run: Path) -> None:
    copied(trained_run, "old")
    copied(trained_run, "cv/fold-1")
    found = check_deletable(["old", "cv"], Path("experiments"))
    for path in ("old", "cv/fold-1"):
        with (
            alone_in(Path("experiments") / path, otherwise=RunError("busy")),
            pytest.raises(RunError, match="another process is training"),
        ):
            delete(found if path == "old" else found[1:])
    assert listed() == {"old", "cv"}


def test_a_run_that_cannot_be_removed_completely_is_not_half_a_run(
    run_cli: RunCli, trained_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(trained_run, "../my runs/old")

    def fail(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", fail)
        outcome = run_cli("runs", "delete", "old", "--yes", "--output-dir", "my runs")
    assert outcome.code == 1
    assert re.search(r"old is not a run any more, but files of it are left in my runs/\.deleted-", outcome.err)
    assert "hint: rm -r 'my runs/.deleted-" in outcome.err
    assert not Path("my runs/old").exists()
    assert as_json(run_cli("runs", "--json", "--output-dir", "my runs")) == []
