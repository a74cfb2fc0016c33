"""``vit train --seeds``: runs that differ only in their seed, as one group."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.builders.runs import results
from tests.conftest import Outcome
from vitcli.core.config_files import configure
from vitcli.core.errors import RunError
from vitcli.core.groups import member_folder, members_of_settings, one_of, whole_group, with_first_seed
from vitcli.core.means import interval_of_mean
from vitcli.core.run_search import all_runs, members_of
from vitcli.core.runs import Run
from vitcli.data.locks import alone_in
from vitcli.training.groups import SeedsResult, summed_up
from vitcli.training.result import result_of

RunCli = Callable[..., Outcome]


def as_json(outcome: Outcome) -> Any:
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def listed(interval: tuple[float, float] | None) -> list[float] | None:
    """An interval as in JSON; None: the runs are equally accurate, which depends on the processor."""
    return list(interval) if interval else None


@pytest.fixture(scope="module")
def trained(
    run_cli: RunCli, shapes: Path, tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Outcome]:
    """The folder of two runs, and what the command that trained them said."""
    output_dir = tmp_path_factory.mktemp("seeds")
    where = ("--output-dir", output_dir, "--data-dir", output_dir / "data")
    outcome = run_cli("train", shapes, *tiny, "--seeds", "2", "--seed", "1", "--name", "pair", *where, "--json")
    assert outcome.code == 0, outcome.err
    return output_dir / "pair", outcome


@pytest.fixture
def pair(trained: tuple[Path, Outcome]) -> Path:
    """A copy of these two runs that may be changed."""
    return shutil.copytree(trained[0], Path("experiments") / "pair")


def test_seeds_are_runs_with_the_same_test_images_and_a_mean(trained: tuple[Path, Outcome]) -> None:
    folder, outcome = trained
    result = as_json(outcome)
    assert [each["run"] for each in result["seeds"]] == ["pair/seed-1", "pair/seed-2"]
    assert "seeds: 1, 2; each has its own initial weights" in outcome.err
    runs = members_of(folder)
    assert [(run.config["run"]["seed"], run.config["run"]["nth_seed"]) for run in runs] == [(1, 1), (2, 2)]
    first, second = ((run.split or {})["held_out"] for run in runs)
    assert first["test"] == second["test"]
    assert first["val"] != second["val"]
    accuracies = [run.metrics["best"]["val_accuracy"] for run in runs]
    assert result["val_accuracy"] == pytest.approx(sum(accuracies) / 2)
    assert result["val_accuracy_interval"] == listed(interval_of_mean(accuracies))
    stored = json.loads((folder / "seeds.json").read_text())
    assert stored["val_accuracy_interval"] == result["val_accuracy_interval"]


def test_a_run_that_another_process_trains_is_not_replaced(
    run_cli: RunCli, shapes: Path, tiny: tuple[str, ...], pair: Path
) -> None:
    with alone_in(pair / "seed-2", otherwise=RunError("")):
        outcome = run_cli("train", shapes, *tiny, "--seeds", "2", "--seed", "1", "--name", "pair", "--overwrite")
    assert outcome.code == 1
    assert f"another process is training {pair / 'seed-2'}" in outcome.err
    assert all(run.status == "finished" for run in members_of(pair))


def test_a_group_of_seeds_is_listed_shown_and_compared(run_cli: RunCli, pair: Path) -> None:
    rows = as_json(run_cli("runs", "--json"))
    assert [row["name"] for row in rows] == ["pair", "pair/seed-2", "pair/seed-1"]
    row = rows[0]
    assert (row["seeds"], row["seeds_finished"], row["folds"], row["status"]) == (2, 2, None, "finished")
    assert run_cli("runs", "best").out == "pair\n"
    judged = run_cli("eval", "--model", "pair", "--json")
    assert as_json(judged)["files"]["metrics"] == str(pair / "evaluations" / "test.json")
    refused = run_cli("eval", "--model", "pair", "--split", "val")
    assert "trained on images that others held out" in refused.err
    assert run_cli("eval", "--model", "pair/seed-1").code == 0
    assert run_cli("eval", "--model", "pair/seed-2").code == 0
    report = as_json(run_cli("runs", "show", "pair", "--json"))
    tested = [row["test_accuracy"] for row in report["runs"]]
    assert report["test_accuracy_mean"] == pytest.approx(sum(tested) / 2)
    assert report["test_accuracy_interval"] == listed(interval_of_mean(tested))
    compared = as_json(run_cli("runs", "compare", "pair/seed-1", "pair/seed-2", "pair", "--json"))
    assert [each["setting"] for each in compared["settings"]] == ["run.seed"]
    assert len(compared["pairs"]) == 2
    assert "belongs to a group of seeds" in run_cli("runs", "delete", "pair/seed-1", "--yes").err


def test_a_missing_run_is_trained_by_resuming_as_if_alone(
    run_cli: RunCli, pair: Path, trained: tuple[Path, Outcome]
) -> None:
    shutil.rmtree(pair / "seed-2")
    assert "1 of 2 seeds" in run_cli("runs").out
    outcome = run_cli("train", "--resume", "pair")
    assert outcome.code == 0, outcome.err
    one, other = (dict(results(folder / "seed-2")) for folder in (pair, trained[0]))
    assert {name for name in one if one[name] != other[name]} == {"config.json"}  # where the run is
    assert "all 2 seeds of pair are finished" in run_cli("train", "--resume", "pair").err
    again = run_cli("train", "--from-run", "pair/seed-2", "--name", "alone")
    assert again.code == 0, again.err
    weights = [
        dict(results(folder))["checkpoints/best.safetensors"][0]
        for folder in (pair / "seed-2", Path("experiments/alone"))
    ]
    assert weights[0] == weights[1]


def test_runs_of_other_data_make_no_group(
    run_cli: RunCli, image_folder: Callable[..., Path], tiny: tuple[str, ...], tmp_path: Path
) -> None:
    folder = image_folder(tmp_path / "bugs", {"ant": 8, "bee": 8})
    assert run_cli("train", folder, *tiny, "--seeds", "3", "--name", "g").code == 0
    group = tmp_path / "experiments" / "g"
    shutil.rmtree(group / "seed-2")
    image_folder(tmp_path / "more", {"ant": 9, "bee": 8})
    shutil.copy(tmp_path / "more" / "ant" / "008.png", folder / "ant" / "new.png")
    resumed = run_cli("train", "--resume", "g")
    assert resumed.code == 1
    assert "bugs is not the data of run g/seed-0: images, labels or the order of classes changed" in resumed.err
    assert not (group / "seed-2").exists()
    assert run_cli("train", folder, *tiny, "--seed", "2", "--name", "other").code == 0
    shutil.copytree(tmp_path / "experiments" / "other", group / "seed-2")
    (folder / "ant" / "new.png").unlink()
    with pytest.raises(RunError, match="the runs of g were trained on different data"):
        summed_up([result_of(Run(group / f"seed-{seed}")) for seed in range(3)])


def test_a_group_that_is_overwritten_has_no_runs_of_the_earlier_one(
    run_cli: RunCli, pair: Path, shapes: Path, tiny: tuple[str, ...]
) -> None:
    """Wherever it is stopped after its first run has begun."""
    shutil.copytree(pair / "seed-2", pair / "seed-3")
    words = ("--seeds", "2", "--seed", "1", "--name", "pair", "--overwrite", "--lr", "1e38", "--epochs", "2")
    outcome = run_cli("train", shapes, *tiny, *words)
    assert outcome.code == 1
    assert "loss became" in outcome.err
    assert [run.path.name for run in members_of(pair)] == ["seed-1"]


def test_runs_that_are_none_of_a_group_stop_its_resuming(run_cli: RunCli, pair: Path) -> None:
    (pair / "seed-2").rename(pair / "seed-3")
    outcome = run_cli("train", "--resume", "pair")
    assert outcome.code == 1
    assert f"pair has runs that are none of its 2: {pair / 'seed-3'}" in " ".join(outcome.err.split())


@pytest.mark.parametrize("words", [("--seeds", "2", "--seed", "7"), ("--folds", "2")])
def test_a_group_that_exists_is_not_replaced_by_another_one(
    run_cli: RunCli, pair: Path, shapes: Path, tiny: tuple[str, ...], words: tuple[str, ...]
) -> None:
    outcome = run_cli("train", shapes, *tiny, *words, "--name", "pair")
    assert outcome.code == 1
    assert "run 'seed-1' exists already" in outcome.err
    assert sorted(path.name for path in pair.iterdir()) == ["seed-1", "seed-2", "seeds.json"]


def test_runs_that_are_only_called_like_seeds_are_no_group(run_cli: RunCli, pair: Path, digit: Path) -> None:
    for run in members_of(pair):
        del run.info["nth_seed"]
        run.note()
        run.path.rename(Path("experiments") / run.path.name)
    shutil.rmtree(pair)
    assert {run.name for run in all_runs(Path("experiments"))} == {"seed-1", "seed-2"}
    assert "model: the newest finished run, seed-2" in run_cli("predict", digit).err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--seeds", "1"), "--seeds 1 is not 2 or more"),
        (("--seeds", "2", "--folds", "2"), "--folds 2 and --seeds 2 each make a group of runs"),
        (("--seeds", "2", "--find-lr"), "hint: leave out --seeds"),
        (("--set", "run.nth_seed=3"), "nth_seed = 3 is more than run.seeds = 0"),
    ],
)
def test_what_does_not_go_with_seeds_is_refused(
    run_cli: RunCli, shapes: Path, tiny: tuple[str, ...], words: tuple[str, ...], said: str
) -> None:
    outcome = run_cli("train", shapes, *tiny, *words)
    assert outcome.code == 2
    assert said in outcome.err
    assert not list(Path().glob("experiments/**/run.json"))


def test_seeds_count_from_0_or_from_the_first_that_is_given() -> None:
    assert [*members_of_settings(configure(*with_first_seed([{"run": {"seeds": 3}}])))] == [
        "seed-0",
        "seed-1",
        "seed-2",
    ]
    asked = configure(*with_first_seed([{"run": {"seed": 5, "seeds": 2}}]))
    members = members_of_settings(asked)
    assert [*members] == ["seed-5", "seed-6"]
    second = configure({"run": {"seeds": 2}}, members["seed-6"])
    assert (member_folder(second), members_of_settings(second)) == ("seed-6", {})
    assert members_of_settings(whole_group(second)) == members
    assert one_of(second) == configure({"run": {"seed": 6}})
    assert with_first_seed([{"data": {"folds": 2}}]) == ({"data": {"folds": 2}},)


def test_python_shows_the_mean(pair: Path) -> None:
    result = summed_up([result_of(Run(path)) for path in (pair / "seed-1", pair / "seed-2")])
    assert isinstance(result, SeedsResult)
    assert repr(result).startswith("<SeedsResult experiments/pair: 2 seeds, validation accuracy ")
    assert "pair/seed-2" in result._repr_html_()
