"""Curves for TensorBoard and W&B, read back with what these read them with."""

import builtins
import csv
import importlib.util
import itertools
import json
import os
import struct
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.builders.processes import exit_code, say_what_wandb_lacks, vit_with_wandb
from tests.builders.runs import RUN, TINY, Listener, Stopped, results, stopped_run, whole_results
from vitcli.core.config import RunConfig
from vitcli.core.events import Event, TrainingProgress, Warned
from vitcli.core.files import flat
from vitcli.core.runs import Run
from vitcli.engine.state import load_state
from vitcli.training import loggers
from vitcli.workflows.resume import resume
from vitcli.workflows.train import train

RunCli = Callable[..., Any]
LOGGED_TOO: dict[str, Any] = {"run": {"tensorboard": True, "log_steps": 2}}
LOGGED: dict[str, Any] = {"run": {**LOGGED_TOO["run"], "save_steps": 3}}
TIMINGS = {"seconds", "images_per_second", "data_share", "peak_memory"}
FOURS: dict[str, Any] = {"optim": {"batch_size": 4}}
STEPS = 4
"""Of an epoch: 16 images in batches of 4."""
BLOCK = 32768
"""Bytes of a block of W&B's files."""
Curves = dict[str, list[tuple[int, float]]]


@pytest.fixture(scope="module")
def whole(shapes: Path, tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """A logged run that was not interrupted; not to be changed."""
    folder = tmp_path_factory.mktemp("whole")
    train(
        {"data": {"name": str(shapes), "dir": str(data_dir)}}, TINY, FOURS, LOGGED, {"run": {"output_dir": str(folder)}}
    )
    return folder / "run"


def curves(run: Path) -> Curves:
    """The curves of a run as TensorBoard shows them."""
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {name: [(each.step, each.value) for each in events.Scalars(name)] for name in events.Tags()["scalars"]}


def untimed(shown: Curves) -> Curves:
    """Without values that a clock tells, but with the places where they stand."""
    timed = {name for name in shown if name.rpartition("/")[2] in TIMINGS}
    return {name: [(at, 0.0 if name in timed else value) for at, value in points] for name, points in shown.items()}


def stop_after(steps: int, *, times: int = 1) -> Callable[[Event], None]:
    """Ends a training when it tells of so many steps for the n-th time: at first that is before they are saved."""
    told = itertools.count(1)

    def listen(event: Event) -> None:
        is_there = isinstance(event, TrainingProgress) and (event.epoch - 1) * STEPS + event.step >= steps
        if is_there and next(told) == times:
            raise Stopped

    return listen


def warnings_of(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Warned)]


# metrics.csv


def test_the_table_of_metrics_says_what_json_says(trained_run: Path) -> None:
    with (trained_run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    records = Run(trained_run).metrics["epochs"]
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for row, record in zip(rows, records, strict=True):
        assert row == {name: "" if value is None else str(value) for name, value in flat(record).items()}
        assert record["peak_memory"] > 10**7
        assert record["learning_rates"].keys() == {"matrices", "rest"}


def test_records_of_earlier_versions_are_read_listed_and_gone_on_from(run_cli: RunCli, shapes: Path) -> None:
    train({"data": {"name": str(shapes)}}, TINY, {"optim": {"epochs": 2}})
    stored = json.loads((RUN / "metrics.json").read_text())
    for record in (stored["best"], *stored["epochs"]):
        del record["learning_rates"], record["peak_memory"]
    (RUN / "metrics.json").write_text(json.dumps(stored))
    (RUN / "metrics.csv").unlink()
    assert run_cli("runs").code == 0
    assert run_cli("train", "--resume", "run", "--epochs", "3").code == 0


# TensorBoard


def test_tensorboard_shows_every_epoch_every_so_many_steps_and_the_settings(whole: Path) -> None:
    shown = curves(whole)
    records = Run(whole).metrics["epochs"]
    assert shown.keys() >= {"epoch/val_loss", "epoch/learning_rates.matrices", "step/loss", "step/images_per_second"}
    assert "epoch/is_best" not in shown
    places = [STEPS * record["epoch"] for record in records]
    assert [at for at, _ in shown["epoch/val_loss"]] == places == [4, 8, 12, 16]
    assert [value for _, value in shown["epoch/val_loss"]] == pytest.approx([each["val_loss"] for each in records])
    assert [at for at, _ in shown["step/loss"]] == [1, 3, 5, 7, 9, 11, 13, 15]
    last_of_epochs = [value for at, value in shown["step/learning_rate"] if (at + 1) % STEPS == 0]
    assert last_of_epochs == pytest.approx([record["learning_rate"] for record in records])
    events = EventAccumulator(str(whole / "tensorboard"))
    events.Reload()
    (text,) = events.Tensors("settings/text_summary")
    assert b'"batch_size": 4' in text.tensor_proto.string_val[0]


def test_logging_changes_no_bit_of_the_training(shapes: Path, whole: Path) -> None:
    expected, found = whole_results(shapes, FOURS), dict(results(whole.parent))
    for name in ("run/checkpoints/best.safetensors", "run/checkpoints/last.safetensors", "run/metrics.csv"):
        assert found[name] == expected[name]


@pytest.mark.parametrize("steps", [6, 8])
def test_a_resumed_run_has_the_points_of_one_that_was_not_interrupted(shapes: Path, whole: Path, steps: int) -> None:
    """It had logged more than it had saved, within an epoch and at the end of one."""
    with pytest.raises(Stopped):
        train({"data": {"name": str(shapes)}}, TINY, FOURS, LOGGED, emit=stop_after(steps))
    logged, saved = curves(RUN)["step/loss"][-1][0] + 1, load_state(Run(RUN).states[0])
    assert logged == steps > (saved["epoch"] - 1) * STEPS + saved["step"]
    resume("run")
    assert untimed(curves(RUN)) == untimed(curves(whole))


def test_a_run_that_has_only_the_end_of_an_epoch_left_logs_no_step_twice(shapes: Path, whole: Path) -> None:
    with pytest.raises(Stopped):
        train(
            {"data": {"name": str(shapes)}},
            TINY,
            FOURS,
            LOGGED,
            {"run": {"save_steps": 4}},
            emit=stop_after(8, times=2),
        )
    saved = load_state(Run(RUN).states[0])
    assert (saved["epoch"], saved["step"]) == (2, STEPS)
    resume("run")
    assert untimed(curves(RUN)) == untimed(curves(whole))


def test_an_epoch_whose_end_was_saved_but_not_logged_is_logged_by_the_next_process(shapes: Path, whole: Path) -> None:
    stopped_run(shapes, FOURS, after=1)  # which logged nothing at all
    resume("run", LOGGED_TOO)
    found, expected = untimed(curves(RUN)), untimed(curves(whole))
    assert found["epoch/val_loss"] == expected["epoch/val_loss"]
    assert found["step/loss"] == [point for point in expected["step/loss"] if point[0] >= STEPS]


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_is_said_before_anything_is_written(
    run_cli: RunCli, shapes: Path, tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(loggers, "find_spec", lambda module: None if module == name else found(module))
    outcome = run_cli("train", shapes, *tiny, f"--{name}")
    assert outcome.code == 1
    assert f"--{name} needs {name}, which is not installed" in outcome.err
    assert f"uv pip install {name}" in outcome.err
    assert not any(tmp_path.iterdir())
    stopped_run(shapes, after=1)
    before = dict(results(RUN))
    assert run_cli("train", "--resume", "run", f"--{name}").code == 1
    assert dict(results(RUN)) == before


def test_steps_between_points_of_no_curve_are_said_to_change_nothing(
    run_cli: RunCli, shapes: Path, tiny: tuple[str, ...]
) -> None:
    said = "without --tensorboard or --wandb no curves are logged, so --log-steps changes nothing"
    for words in ((shapes, *tiny, "--log-steps", "2", "--name", "run"), ("--resume", "run", "--epochs", "2")):
        outcome = run_cli("train", *words)
        assert outcome.code == 0, outcome.err
        assert outcome.err.count(said) == 1
    events: list[Event] = []
    for config in (RunConfig(), RunConfig(log_steps=2, tensorboard=True), RunConfig(log_steps=2, wandb=True)):
        loggers.mind_useless_steps(config, events.append)
    assert not events


@pytest.mark.parametrize("fault", ["at the start", "later"])
def test_a_logger_that_fails_ends_no_training_and_is_warned_of_once(
    shapes: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    expected = whole_results(shapes)
    if fault == "at the start":
        monkeypatch.setattr(builtins, "__import__", refusing(builtins.__import__, "torch.utils.tensorboard"))
    else:
        from torch.utils.tensorboard import SummaryWriter

        def refuse(*_: object, **__: object) -> None:
            raise OSError("no room")

        monkeypatch.setattr(SummaryWriter, "add_scalar", refuse)
    listener = Listener()
    train({"data": {"name": str(shapes)}}, TINY, {"run": {"tensorboard": True}}, emit=listener)
    (said,) = [text for text in warnings_of(listener.events) if "--tensorboard" in text]
    assert said.startswith("--tensorboard has failed, and training continues without it: no ")
    found = dict(results(Path("experiments")))
    assert found["run/metrics.json"] == expected["run/metrics.json"]
    assert Run(RUN).status == "finished"


def refusing(importing: Callable[..., Any], refused: str) -> Callable[..., Any]:
    def importer(name: str, *rest: Any, **more: Any) -> Any:
        if name == refused:
            raise ImportError("no tensorboard")
        return importing(name, *rest, **more)

    return importer


# Weights & Biases


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """W&B without a network, an account, or files outside of the test's folder."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("HOME", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)


def sent(run: Path) -> list[dict[str, Any]]:
    """What W&B's client wrote into its files, to be sent: a LevelDB log of protocol buffers, after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    found: list[dict[str, Any]] = []
    for path in sorted(run.glob("wandb/offline-run-*/*.wandb")):
        content, at, pieces = path.read_bytes(), 7, b""
        while at + 7 <= len(content):
            if BLOCK - at % BLOCK < 7:  # too little for another piece
                at += BLOCK - at % BLOCK
                continue
            length, kind = struct.unpack_from("<4xHB", content, at)
            pieces += content[at + 7 : at + 7 + length]
            at += 7 + length
            if kind in {1, 4}:  # whole, or the last piece
                found += as_json(Record.FromString(pieces))
                pieces = b""
    return found


def as_json(record: Any) -> list[dict[str, Any]]:
    """A record of a run, or of points; of other kinds nothing."""
    kind = record.WhichOneof("record_type")
    if kind == "run":
        config = {item.key: json.loads(item.value_json) for item in record.run.config.update}
        names = {"project": record.run.project, "id": record.run.run_id, "name": record.run.display_name}
        return [{"run": names | {"config": config}}]
    if kind == "history":
        return [{"history": {"/".join(each.nested_key): json.loads(each.value_json) for each in record.history.item}}]
    return []


@pytest.mark.usefixtures("offline")
def test_wandb_gets_the_same_curves_and_a_resumed_run_stays_the_same(
    processes: ForkServerContext, shapes: Path, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    """In processes of their own: W&B's client keeps threads, processes and hooks."""
    begin = ("train", str(shapes), *tiny, "--epochs", "2", "--batch-size", "4", "--name", "run", "--device", "cpu")
    for words in ((*begin, "--wandb", "--log-steps", "2"), ("train", "--resume", "run", "--epochs", "3")):
        assert exit_code(processes.Process(target=vit_with_wandb, args=(tmp_path, words, dict(os.environ)))) == 0
    said = (tmp_path / "said.txt").read_text()
    assert "wandb" not in said.lower()  # neither our warning nor its client's talk
    assert not {"\r", "\x1b", "\b"} & set(said)  # a log of plain lines
    assert "ETA" in said
    records = sent(RUN)
    runs = [each["run"] for each in records if "run" in each]
    assert len(runs) >= 2  # of the first process, and of the one that resumed it
    for run in runs:
        assert (run["project"], run["id"], run["name"]) == ("vit", Run(RUN).info["wandb"], "run")
        assert run["config"]["optim"]["batch_size"] == 4
    rows = [each["history"] for each in records if "history" in each]
    assert [row["_step"] for row in rows] == [1, 3, 4, 5, 7, 8, 8, 9, 11, 12]
    kept = Run(RUN).metrics["epochs"]
    epochs = {row["epoch/epoch"]: row for row in rows if "epoch/epoch" in row}
    for record in kept:
        assert epochs[record["epoch"]]["epoch/val_loss"] == record["val_loss"]
        assert epochs[record["epoch"]]["epoch/learning_rates.rest"] == record["learning_rates"]["rest"]


def test_wandb_without_an_account_is_refused(processes: ForkServerContext, tmp_path: Path) -> None:
    """The same check as for packages, in a process of its own, for W&B's client reads the environment once."""
    assert exit_code(processes.Process(target=say_what_wandb_lacks, args=(tmp_path,))) == 0
    said = (tmp_path / "said.txt").read_text()
    assert said == "--wandb: you are not logged in to W&B `wandb login`, or WANDB_MODE=offline"


def test_nothing_is_logged_unasked(trained_run: Path) -> None:
    assert not (trained_run / "tensorboard").exists()
    assert not (trained_run / "wandb").exists()
    assert "wandb" not in Run(trained_run).info
