"""``vit tune`` on the command line: options, what is refused at once, and what a terminal shows."""

import inspect
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import vitcli
from tests.conftest import TINY, Outcome
from vitcli.cli.live import LiveListener, live_listener
from vitcli.cli.progress import PlainListener
from vitcli.cli.tune import _show_result
from vitcli.core.errors import RunError, VitError
from vitcli.core.events import SearchProgress, TrialEnded
from vitcli.training.finals import FinalRow
from vitcli.training.study import Study
from vitcli.workflows.tune import TuneResult

RunCli = Callable[..., Outcome]
QUICK = ("--trials", "2", "--finalists", "1", "--seeds", "2", "--device", "cpu")


@pytest.fixture(scope="module")
def searched(shapes: Path, run_cli: RunCli, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The folder of a small study, and what its command said; not to be changed."""
    output_dir = tmp_path_factory.mktemp("studies")
    words = (
        "--search",
        "optim.lr=0.001..0.1:log",
        "--name",
        "mine",
        "--output-dir",
        output_dir,
        "--data-dir",
        output_dir / "data",
    )
    outcome = run_cli("tune", shapes, *TINY, *QUICK, *words)
    assert outcome.code == 0, outcome.err
    return output_dir / "mine", outcome


def test_a_search_shows_trials_finals_and_an_answer(searched: tuple[Path, Outcome]) -> None:
    study, outcome = searched
    assert "trial   accuracy   epochs  settings\n    0 " in outcome.err
    assert "1/1  the default\n    1 " in outcome.err
    assert "`vit tune --resume " in outcome.err
    lines = outcome.out.splitlines()
    assert lines[0].split() == ["trial", "accuracy", "epochs", "lr", "note"]
    assert sum(line.startswith("trial-000") for line in lines) == 2
    assert any(line.startswith("trials  ") and line.endswith("2, 0 pruned, 0 failed") for line in lines)
    assert any(line.startswith("default, 2 seeds") for line in lines)
    assert any(line.startswith("final-0001, 2 seeds") and line.endswith(" points") for line in lines)
    assert any(line.startswith("answer") and "than the default" in line for line in lines)
    assert Study.open(study).stored.status == "finished"


def test_trials_and_finals_are_runs_that_other_commands_take(searched: tuple[Path, Outcome], run_cli: RunCli) -> None:
    study, _ = searched
    where = ("--output-dir", study.parent)
    assert json.loads(run_cli("runs", "show", "mine/trial-0001", *where, "--json").out)["best"]["epoch"] == 1
    assert json.loads(run_cli("runs", *where, "--json").out) == []  # as they would hide all others
    listed = [row["name"] for row in json.loads(run_cli("runs", "--output-dir", study, "--json").out)]
    assert {"default", "final-0001", "trial-0000", "trial-0001", "default/seed-43"} <= {*listed}
    judged = run_cli("eval", "--model", study / "final-0001", *where)
    assert judged.code == 0, judged.err
    again = run_cli("train", "--from-run", study / "trial-0001", "--name", "again")
    assert again.code == 0, again.err


def test_a_finished_search_prints_its_result_again_as_json(searched: tuple[Path, Outcome], run_cli: RunCli) -> None:
    study, _ = searched
    outcome = run_cli("tune", "--resume", "mine", "--output-dir", study.parent, "--json")
    result = json.loads(outcome.out)
    assert [row["number"] for row in result["trials"]] == [0, 1]
    assert result["name"] == "mine"
    assert result["answer"] in searched[1].out.replace("\n                   ", " ")


def test_a_plan_trains_nothing(run_cli: RunCli, shapes: Path) -> None:
    outcome = run_cli("tune", shapes, *TINY, *QUICK, "--dry-run")
    assert outcome.code == 0, outcome.err
    assert "augment.strength       0 to 2\n" in outcome.out
    assert "first trial            the default settings" in outcome.out
    assert "4 trainings" in outcome.out
    assert "; 2 at most" in outcome.out
    plan = json.loads(run_cli("tune", shapes, *TINY, *QUICK, "--search", "optim.lr=1..2", "--dry-run", "--json").out)
    assert plan["space"] == [{"setting": "optim.lr", "values": "1.0..2.0", "words": "1 to 2"}]
    assert not plan["has_default"]
    assert not Path("experiments").exists()


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ("--search lr=1,2", "--search 'lr=1,2' is not of the form", "did you mean --search optim.lr=1,2?"),
        ("--space lost.toml", "no such file of a search space: lost.toml", "--space takes a TOML file"),
        ("--minutes 0", "--minutes 0 is not positive", "--minutes 5"),
        ("--minutes nan", "--minutes nan is not positive", "--minutes 5"),
        ("--trials 1", "--trials 1 is the default alone", "--trials 20"),
        ("--finalists 0", "--finalists 0 is not positive", "--finalists 5"),
        ("--seeds 1", "--seeds 1 is not 2 or more", "--seeds 5"),
        ("-o here.toml", "here.toml exists already", "-o FILE.toml"),
        ("--set run.folds=2", "unknown key 'run.folds'", "data.folds"),
        ("--set optim.lr=-1", "optim.lr = -1 is not", "for example --set optim.lr=0.01"),
        ("--resume", "no unfinished study in experiments", "vit tune"),
        ("--resume minn", "no study 'minn' in experiments", "vit tune"),
        ("--resume --output-dir all", "no unfinished study in all", "`vit tune --output-dir all` makes one"),
        ("--resume --output-dir all", "no unfinished study in all", "`vit tune --resume STUDY --output-dir all --min"),
        ("digits --resume minn --output-dir all", "no study 'minn' in all", "`vit tune --output-dir all` makes one"),
    ],
)
def test_what_is_mistyped_is_refused_at_once(run_cli: RunCli, words: str, message: str, hint: str) -> None:
    Path("here.toml").touch()
    outcome = run_cli("tune", *words.split())
    assert outcome.code in {1, 2}
    assert message in outcome.err
    assert hint in outcome.err.partition("hint: ")[2]
    assert not Path("experiments").exists()


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ("--epochs 3", "--epochs"),
        ("--seeds 3 --search optim.lr=1,2", "--seeds, --search"),
        ("digits --set optim.lr=1", "'digits', optim.lr"),
    ],
)
def test_a_resumed_search_keeps_its_settings(
    searched: tuple[Path, Outcome], run_cli: RunCli, words: str, given: str
) -> None:
    study, _ = searched
    outcome = run_cli("tune", *words.split(), "--resume", "mine", "--output-dir", study.parent)
    assert outcome.code == 2
    assert f"but others are given: {given}\n" in outcome.err
    assert "hint: leave them out; --minutes and --trials may change" in outcome.err


def test_the_next_commands_can_be_copied_from_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    scores: dict[str, Any] = {"settings": {}, "val_accuracies": (0.9, 0.9), "val_accuracy": 0.9}
    command = "vit train '/home/me/all of my photos' --labels /home/me/labels.csv --recipe experiments/a/recipe.toml"
    result = TuneResult(
        name="a",
        path=Path("experiments/a"),
        dataset="/home/me/all of my photos",
        recipe="photos",
        trials=(),
        finals=(
            FinalRow(name="default", path=Path("default"), trial=None, difference=None, interval=None, **scores),
            FinalRow(
                name="final-0001", path=Path("final-0001"), trial=1, difference=0.1, interval=(0.05, 0.15), **scores
            ),
        ),
        answer="better than the default",
        is_better=True,
        recipe_file=Path("experiments/a/recipe.toml"),
        train_command=command,
        seconds=1.0,
    )
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(sys, "argv", ["vit"])
    _show_result(result)
    assert command in sys.stderr.getvalue()


def test_a_mistyped_study_is_found(searched: tuple[Path, Outcome], run_cli: RunCli) -> None:
    study, _ = searched
    outcome = run_cli("tune", "--resume", "mnie", "--output-dir", study.parent)
    assert "did you mean 'mine'?" in outcome.err
    (study.parent / "broken").mkdir()
    (study.parent / "broken" / "study.json").write_text("{")
    outcome = run_cli("tune", "--resume", "broken", "--output-dir", study.parent)
    assert "study.json is not a file of vit, or is broken" in outcome.err
    outcome = run_cli("tune", "--resume", "--output-dir", study.parent)
    assert "study.json is not a file of vit, or is broken" in outcome.err
    (study.parent / "broken" / "study.json").unlink()
    outcome = run_cli("tune", "digits", "--name", "mine", "--output-dir", study.parent)
    assert "study 'mine' exists already" in outcome.err
    assert f"`vit tune --resume {study}` continues it" in outcome.err
    (study.parent / "seeds" / "seed-0").mkdir(parents=True)
    (study.parent / "notes").touch()
    (study.parent / "photos").mkdir()
    (study.parent / "photos" / "a.png").touch()
    for name in ("seeds", "notes", "photos"):
        outcome = run_cli("tune", "digits", "--name", name, "--output-dir", study.parent)
        assert f"{name} exists and is not a study" in outcome.err
        assert "--name NAME gives the study another name" in outcome.err
    outcome = run_cli("train", "digits", "--seeds", "2", "--name", "mine", "--output-dir", study.parent)
    assert "is a study, so it cannot hold several runs" in outcome.err
    made = Study.open(study)
    before = {path.name: path.read_bytes() for path in study.iterdir() if path.is_file()}
    with pytest.raises(RunError, match="study 'mine' exists already"):  # made since the name was checked
        Study.create(study, made.stored, default={})
    assert {path.name: path.read_bytes() for path in study.iterdir() if path.is_file()} == before


ENDED = TrialEnded(
    number=7,
    val_accuracy=0.9161,
    epoch=15,
    epochs=60,
    outcome="pruned",
    settings={"optim.lr": 0.0123, "optim.weight_decay": 0.05, "optim.batch_size": "128"},
    is_best=False,
)


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        (60, ["    7    91.61 %    15/60  pruned   lr 0.0123", f"{'':27}weight_decay 0.05", f"{'':27}batch_size 128"]),
        (80, ["    7    91.61 %    15/60  pruned   lr 0.0123   weight_decay 0.05", f"{'':27}batch_size 128"]),
        (120, ["    7    91.61 %    15/60  pruned   lr 0.0123   weight_decay 0.05   batch_size 128"]),
    ],
)
def test_the_line_of_a_trial_suits_the_width_of_the_terminal(columns: int, lines: list[str]) -> None:
    text = io.StringIO()
    listener = PlainListener(Console(file=text, width=columns))
    listener(ENDED)
    listener(ENDED)
    assert text.getvalue().splitlines() == ["trial   accuracy   epochs  settings", *lines, *lines]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_bar_shows_where_a_search_is(width: int) -> None:
    def shown() -> str:
        console = Console(file=io.StringIO(), width=width)
        with console.capture() as captured:
            console.print(listener.progress.get_renderable())
        return captured.get().strip()

    with live_listener(Console(file=io.StringIO(), force_terminal=True, width=width)) as listener:
        assert isinstance(listener, LiveListener)
        listener(SearchProgress(task="trial 12", epoch=14, epochs=60, best=None, share=0.25))
        assert "best" not in shown()
        listener(SearchProgress(task="trial 12", epoch=15, epochs=60, best=0.986, share=0.26))
        assert shown().startswith("trial 12  epoch 15/60")
        assert " 26 %  best 98.60 % ETA" in shown()
        listener(SearchProgress(task="final 2 of 9", epoch=1, epochs=60, best=None, share=0.2))
        assert shown().startswith("final 2 of 9  epoch 1/60")
        assert "\n" not in shown()


def test_python_searches_too(searched: tuple[Path, Outcome], shapes: Path) -> None:
    small = {"model": {"depth": 1, "width": 16, "num_heads": 2, "mlp_width": 32}}
    limits: dict[str, Any] = {"trials": 2, "finalists": 1, "seeds": 2}
    result = vitcli.tune(
        shapes, small, epochs=1, amp="off", device="cpu", search="optim.lr=0.01,0.02", quiet=True, **limits
    )
    assert isinstance(result, TuneResult)
    assert repr(result).startswith("<TuneResult experiments/shapes-tune-001: 2 trials, ")
    again = vitcli.tune(resume=searched[0], quiet=True)
    assert len(again.trials) == 2
    assert "search" in inspect.signature(vitcli.tune).parameters
    with pytest.raises(VitError) as caught:
        vitcli.tune(shapes, search=["lr=1,2"])
    assert "'lr=1,2' is not of the form" in caught.value.message
    assert 'did you mean search="optim.lr=1,2"?' in caught.value.hint
    with pytest.raises(VitError, match="others are given: epochs, seeds="):
        vitcli.tune(resume=searched[0], epochs=3, seeds=2)
