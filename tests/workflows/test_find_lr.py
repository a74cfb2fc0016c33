"""``vit train --find-lr``: a rate that trains, a figure, the next command; and no run."""

import json
import os
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import TINY, Outcome
from vitcli.cli.train_report import next_words, show_found_rate
from vitcli.core.errors import Interrupted
from vitcli.core.events import TaskProgress
from vitcli.core.runs import Run
from vitcli.engine.rate_finder import RatePoint
from vitcli.workflows.find_lr import FoundRate, find_lr

RunCli = Callable[..., Outcome]


@pytest.mark.pictures
def test_a_rate_is_found_with_a_figure_and_no_run(run_cli: RunCli, tmp_path: Path) -> None:
    outcome = run_cli("train", "digits", *TINY, "--find-lr", "--json", "--device", "cpu", "--lr", "0.02")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert found["settings"] == {"optim.lr": found["lr"], "optim.adamw_lr": pytest.approx(found["lr"] / 10, rel=0.06)}
    assert found["lr"] < found["least"] < found["diverged"]
    assert len(found["points"]) > 50
    rates = [point["lr"] for point in found["points"]]
    assert rates == sorted(rates)
    figure = Path(found["figure"])
    assert figure.resolve() == (tmp_path / "experiments" / "previews" / "digits" / "learning-rate.png").resolve()
    with Image.open(figure) as image:
        assert image.size[0] > 500
    assert [path.name for path in Path("experiments").iterdir()] == ["previews"]
    words = next_words(found["settings"], ["train", "digits", *TINY, "--find-lr", "--device", "cpu"])
    outcome = run_cli(*words, "--name", "trained")
    assert outcome.code == 0, outcome.err
    assert Run(Path("experiments/trained")).config["optim"]["lr"] == pytest.approx(found["lr"], rel=0.06)


def test_it_says_what_to_type_next(run_cli: RunCli, shapes: Path) -> None:
    words = ("train", shapes, *TINY, "--opt", "adamw", "--head-lr=0.004", "--batch-size", "8", "--device", "cpu")
    outcome = run_cli(*words, "--find-lr")
    assert outcome.code == 0, outcome.err
    assert "previews/shapes/learning-rate.png" in outcome.out
    said = shlex.split(outcome.err.partition("next: ")[2])
    assert said[: len(words)] == ["vit", *(str(word) for word in words if not str(word).startswith("--head-lr"))]
    assert said[len(words)] == "--lr"
    assert said[len(words) + 2] == "--head-lr"
    lr, head_lr = float(said[len(words) + 1]), float(said[len(words) + 3])
    assert head_lr / lr == pytest.approx(0.004 / 0.002, rel=0.06)


@pytest.mark.parametrize(
    ("configured", "said"),
    [
        (0.005, "0.005\n"),
        (0.015, "0.015, where the loss is still falling: good too"),
        (0.04, "0.04, where the loss is still near its least: good too"),
        (0.05, "probably too high"),
    ],
)
def test_a_lower_rate_than_the_configured_one_is_suggested_with_a_reason(
    capsys: pytest.CaptureFixture[str], configured: float, said: str
) -> None:
    curve = {1e-5: 2.0, 0.01: 1.2, 0.03: 1.0, 0.04: 1.05, 0.05: 1.8, 10.0: 2.0}
    points = tuple(RatePoint(lr=lr, loss=loss, smoothed=loss) for lr, loss in curve.items())
    found = FoundRate(
        dataset="digits",
        model="vit-nano-patch2",
        recipe="digits",
        changed_sizes="",
        optimizer="adamw",
        lr=0.01,
        settings={"optim.lr": 0.01},
        configured=configured,
        least=0.03,
        diverged=None,
        points=points,
        figure=Path("learning-rate.png"),
    )
    show_found_rate(found, ["train", "--find-lr"])
    shown, after = capsys.readouterr()
    assert said in "\n".join(map(str.rstrip, shown.splitlines())) + "\n"
    assert "vit train --lr 0.01" in after
    assert ("next: vit train  trains with the configured rate" in after) == said.endswith("good too")
    assert "not up to 10" in shown


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["train", "--find-lr"], ["train"]),
        (["train", "a b", "--lr", "3", "--find-lr", "--json"], ["train", "a b"]),
        (["train", "--lr=3", "--epochs", "2", "--find-lr"], ["train", "--epochs", "2"]),
        (["train", "--find-lr", "--set", "optim.lr=2", "--head-lr", "1"], ["train", "--set", "optim.lr=2"]),
    ],
)
def test_the_next_command_is_the_same_with_other_rates(typed: list[str], expected: list[str]) -> None:
    assert next_words({"optim.lr": 0.25}, typed) == [*expected, "--lr", "0.25"]
    assert next_words({"optim.lr": 0.25, "optim.adamw_lr": 1e-3}, typed)[-2:] == ["--set", "optim.adamw_lr=0.001"]


def test_a_head_on_a_frozen_backbone_gets_a_rate(run_cli: RunCli, trained_run: Path) -> None:
    words = ("train", "digits", "--init-from", trained_run, "--freeze-backbone", "--find-lr", "--device", "cpu")
    outcome = run_cli(*words, "--json", "--output-dir", "elsewhere")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["optimizer"] == "adamw"
    assert Path("elsewhere/previews/digits/learning-rate.png").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--dry-run",), "--dry-run and --find-lr do not go together"),
        (("--resume", "x"), "--resume and --find-lr do not go together"),
        (("--folds", "3"), "--fold 1"),
    ],
)
def test_what_does_not_go_with_it_is_refused(run_cli: RunCli, words: tuple[str, ...], said: str) -> None:
    outcome = run_cli("train", "digits", "--find-lr", *words)
    assert outcome.code == 2
    assert said in outcome.err
    assert not Path("experiments").exists()


def test_ctrl_c_ends_it_and_leaves_nothing(shapes: Path) -> None:
    def listen(event: Any) -> None:
        if isinstance(event, TaskProgress) and (event.task, event.done) == ("trying learning rates", 5):
            os.kill(os.getpid(), signal.SIGINT)

    tiny = {"depth": 1, "width": 16, "num_heads": 2, "mlp_width": 32}
    with pytest.raises(Interrupted) as stopped:
        find_lr({"data": {"name": str(shapes)}, "model": tiny, "run": {"device": "cpu"}}, emit=listen)
    assert stopped.value.exit_code == 130
    assert not Path("experiments").exists()
