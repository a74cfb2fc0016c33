"""Runs that an earlier version made: they load, answer as they did, resume, and are trained again.

``tests/golden/runs`` was made before the rooms of the package were moved, on the bundled digits: ``finished`` has 10
epochs, ``stopped`` and ``lora`` were stopped after 2 and 1 of 4, and ``crossed`` after the first of 2 folds. The numbers in
``expected.json`` are those of that version.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Outcome
from vitcli.core.runs import Run

RunCli = Callable[..., Outcome]
RUNS = Path(__file__).parents[1] / "golden" / "runs"
EXPECTED = json.loads((RUNS / "expected.json").read_text())
EXAMPLES = Path(__file__).parents[2] / "examples" / "images"


@pytest.fixture(autouse=True)
def _earlier_runs(tmp_path: Path) -> None:
    shutil.copytree(RUNS, tmp_path / "experiments", ignore=shutil.ignore_patterns("expected.json"))


def test_they_answer_as_they_did(run_cli: RunCli, data_dir: Path) -> None:
    evaluated = run_cli("eval", "--model", "finished", "--data-dir", data_dir, "--json")
    metrics = json.loads(evaluated.out)["metrics"]
    assert metrics["top1"] == pytest.approx(
        EXPECTED["top1"], abs=1.5 / metrics["images"]
    )  # one image may be a close call
    assert metrics["loss"] == pytest.approx(EXPECTED["loss"], abs=1e-3)
    predicted = run_cli("predict", EXAMPLES, "--model", "finished", "--top-k", "10", "--json")
    rows = {Path(row["path"]).name: row for row in json.loads(predicted.out)["rows"]}
    assert rows.keys() == EXPECTED["predicted"].keys()
    for name, probabilities in EXPECTED["predicted"].items():
        found = dict(zip(rows[name]["classes"], rows[name]["probabilities"], strict=True))
        assert found == pytest.approx(probabilities, abs=1e-3)


def test_they_are_explained_and_listed(run_cli: RunCli) -> None:
    assert run_cli("attention-map", EXAMPLES / "digit-3.png", "--model", "finished").code == 0
    listed = {run["name"]: run["status"] for run in json.loads(run_cli("runs", "--json").out)}
    assert listed == {
        "crossed": "unfinished",
        "finished": "finished",
        "stopped": "interrupted",
        "lora": "interrupted",
        "crossed/fold-1": "finished",
    }


@pytest.mark.parametrize(("name", "epochs"), [("stopped", 4), ("lora", 4)])
def test_they_resume(run_cli: RunCli, data_dir: Path, name: str, epochs: int) -> None:
    before = Run(Path("experiments") / name).metrics["epochs"]
    outcome = run_cli("train", "--resume", name, "--data-dir", data_dir)
    assert outcome.code == 0, outcome.err
    run = Run(Path("experiments") / name)
    assert run.status == "finished"
    assert len(run.metrics["epochs"]) == epochs
    assert run.metrics["epochs"][: len(before)] == before


def test_a_cross_validation_continues_with_the_fold_that_is_missing(run_cli: RunCli, data_dir: Path) -> None:
    outcome = run_cli("train", "--resume", "crossed", "--data-dir", data_dir)
    assert outcome.code == 0, outcome.err
    assert Run(Path("experiments/crossed/fold-2")).status == "finished"


def test_they_are_trained_again(run_cli: RunCli, data_dir: Path) -> None:
    outcome = run_cli("train", "--from-run", "finished", "--data-dir", data_dir, "--epochs", "1", "--name", "again")
    assert outcome.code == 0, outcome.err
    assert len(Run(Path("experiments/again")).metrics["epochs"]) == 1
