"""``vit train`` in several processes: as torchrun starts them, killed and started again, stopped, and ended by errors."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from safetensors.torch import load_file
from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from tests.builders.processes import COMMAND, running, vit_with_log
from tests.builders.two_processes import free_port
from vitcli.cli.app import main
from vitcli.core.runs import Run

EXAMPLES = Path(__file__).parents[2] / "examples"
LENGTH = ("--epochs", "2", "--batch-size", "6", "--save-steps", "1", "--device", "cpu", "--amp", "off")
SETTINGS = (
    *("--opt", "sgd", "--ema", "--mixup", "0.8", "--cutmix", "1", "--set", "augment.erase=0.5"),
    *("--set", "augment.crop_padding=1", "--drop-path", "0", "--grad-accum-steps", "2", "--balanced-sampling"),
)


def vit(folder: Path, words: tuple[str, ...], kill_at: int) -> None:
    """One of the processes: ``vit WORDS``, where the second process is killed at a step of the first attempt."""
    os.chdir(folder)
    os.fsync = lambda _handle: None
    typer.main.get_command = lambda _app: COMMAND
    rank, attempt = os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]
    if kill_at and (rank, attempt) == ("1", "0"):
        from vitcli.engine import trainer

        take, steps = trainer.Trainer.take_step, []

        def step(*arguments: Any) -> None:
            steps.append(0)
            if len(steps) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            take(*arguments)

        trainer.Trainer.take_step = step
    sys.argv = ["vit", *words]
    with (folder / f"said-{rank}.txt").open("a") as said:
        sys.stdout = sys.stderr = sys.__stderr__ = said
        main()


def launch(folder: Path, *words: str, restarts: int = 0, kill_at: int = 0) -> None:
    """As ``torchrun --nproc-per-node 2 --max-restarts N -m vitcli WORDS``, with processes that have torch already."""
    folder.mkdir(exist_ok=True)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        run_id="of-a-test",
        rdzv_backend="static",
        rdzv_endpoint=f"localhost:{free_port()}",
        rdzv_configs={"rank": 0},
        max_restarts=restarts,
        monitor_interval=0.02,
        start_method="forkserver",
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
    )
    elastic_launch(config, vit)(folder, words, kill_at)


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / "last.safetensors")


def epochs_of(run: Path) -> list[dict[str, Any]]:
    epochs: list[dict[str, Any]] = json.loads((run / "metrics.json").read_text())["epochs"]
    return epochs


@pytest.fixture(scope="module")
def words(processes: object, shapes: Path, data_dir: Path, tiny: tuple[str, ...]) -> tuple[str, ...]:
    """Options of every run; ``launch`` forks from the server that ``processes`` has told what to import."""
    assert processes
    return ("train", str(shapes), *tiny, *LENGTH, *SETTINGS, "--data-dir", str(data_dir))


@pytest.fixture(scope="module")
def alone(words: tuple[str, ...], run_cli: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    folder = tmp_path_factory.mktemp("alone")
    outcome = run_cli(*words, "--output-dir", folder, "--name", "run")
    assert outcome.code == 0, outcome.err
    return folder / "run"


def test_a_killed_process_leads_to_a_restart_and_to_the_same_end(
    words: tuple[str, ...], alone: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "together"
    launch(folder, *words, restarts=1, kill_at=4)
    (path,) = (folder / "experiments").iterdir()
    run = Run(path)
    assert (run.status, run.info["processes"], len(run.info["resumed"])) == ("finished", 2, 1)
    assert weights_of(path).keys() == weights_of(alone).keys()
    for name, tensor in weights_of(alone).items():
        torch.testing.assert_close(weights_of(path)[name], tensor, rtol=0, atol=1e-6, msg=name)
    for ours, theirs in zip(epochs_of(alone), epochs_of(path), strict=True):
        for name in ("train_loss", "val_loss", "train_accuracy", "val_accuracy"):
            assert theirs[name] == pytest.approx(ours[name], abs=1e-6)
    first, second = ((folder / f"said-{rank}.txt").read_text() for rank in (0, 1))
    assert "2 processes" in first
    assert "another process of this training ended" in first
    assert "hint: `vit train --resume" in first
    assert "resuming run" in first
    assert second == ""
    assert run.config["run"]["devices"] == 0


def test_processes_with_a_part_of_the_model_each_leave_a_run_like_any_other(
    words: tuple[str, ...], alone: Path, run_cli: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "together"
    launch(folder, *words, "--shard", restarts=1, kill_at=4)
    (path,) = (folder / "experiments").iterdir()
    assert (Run(path).status, len(Run(path).info["resumed"])) == ("finished", 1)
    assert (folder / "said-0.txt").read_text().count("2 processes, each with a shard of the model") == 2
    assert weights_of(path).keys() == weights_of(alone).keys()
    for name, tensor in weights_of(alone).items():
        torch.testing.assert_close(weights_of(path)[name], tensor, rtol=0, atol=1e-6, msg=name)
    assert run_cli("eval", "--model", path, "--device", "cpu").code == 0
    longer = shutil.copytree(alone, tmp_path / "longer")
    one, other = (run_cli("train", "--resume", run, "--epochs", "3") for run in (path, longer))
    assert (one.code, other.code) == (0, 0), one.err + other.err
    assert "--shard has no effect: one process alone holds the whole model" in one.err
    whole = run_cli("train", "--resume", path, "--epochs", "4", "--no-shard")
    assert (whole.code, run_cli("train", "--resume", longer, "--epochs", "4").code) == (0, 0), whole.err
    assert "--shard" not in whole.err
    for name, tensor in weights_of(longer).items():
        torch.testing.assert_close(weights_of(path)[name], tensor, rtol=0, atol=1e-6, msg=name)


def test_one_process_has_nobody_to_share_a_model_with(run_cli: Any) -> None:
    outcome = run_cli("train", "digits", "--shard")
    assert (outcome.code, outcome.out) == (2, "")
    assert "--devices" in outcome.err


def test_the_first_process_tells_of_an_error_and_nobody_else(words: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "together"
    with pytest.raises(ChildFailedError):
        launch(folder, *words, "--lr", "1e38", "--clip-grad", "0", "--name", "run")
    first, second = ((folder / f"said-{rank}.txt").read_text() for rank in (0, 1))
    assert first.count("error: the loss became") == 1
    assert second == ""
    assert Run(folder / "experiments" / "run").status == "failed"
    with pytest.raises(ChildFailedError):  # the name is taken
        launch(folder, *words, "--name", "run")
    first, second = ((folder / f"said-{rank}.txt").read_text() for rank in (0, 1))
    assert first.count("exists already") == 1
    assert second == ""


def test_the_short_form_trains_stops_at_a_signal_and_one_process_goes_on(
    words: tuple[str, ...], processes: ForkServerContext, run_cli: Any, tmp_path: Path
) -> None:
    """The process that starts the others has torch already; those are new interpreters, as users have them."""
    long = (*words, "--name", "run", "--epochs", "500", "--devices", "2")
    log = tmp_path / "log.txt"
    log.touch()
    with running(processes.Process(target=vit_with_log, args=(tmp_path, long, "kept"))) as process:
        assert process.pid is not None
        while "  1/500 " not in log.read_text():
            assert process.is_alive(), log.read_text()
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGTERM)
        process.join(60)
        said = log.read_text()
        assert process.exitcode == 143, said
    assert said.count("stopped by SIGTERM ") == 1
    assert "-m vitcli train --resume run` continues the run" in said
    run = Run(tmp_path / "experiments" / "run")
    assert run.status == "interrupted"
    epochs = len(epochs_of(run.path))
    outcome = run_cli("train", "--resume", "run", "--epochs", epochs + 1)
    assert outcome.code == 0, outcome.err
    assert Run(run.path).status == "finished"
    assert len(epochs_of(run.path)) == epochs + 1


def test_more_devices_than_there_are_are_refused(run_cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    outcome = run_cli("train", "digits", "--device", "cuda", "--devices", "4")
    assert (outcome.code, outcome.out) == (1, "")
    assert "devices = 4" in outcome.err
    assert "--devices 2" in outcome.err
    for also in ((), ("--dry-run",), ("--find-lr",)):
        outcome = run_cli("train", "digits", "--device", "cpu", "--devices", "999", *also)
        assert (outcome.code, outcome.out) == (1, "")
        assert re.search(r"devices = 999, but this machine has [\d,]+ cores? for these processes", outcome.err)


def test_several_processes_train_one_fold(run_cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    outcome = run_cli("train", "digits", "--folds", "3")
    assert outcome.code == 2
    assert "--fold 1" in outcome.err


def test_of_several_processes_that_judge_a_model_one_says_so(
    run_cli: Any, monkeypatch: pytest.MonkeyPatch, trained_run: Path
) -> None:
    """They share no work, and each writes the same file whole."""
    words = ("eval", "--model", trained_run, "--split", "val", "--device", "cpu")
    first = run_cli(*words)
    stored = Run(trained_run).evaluation("val").read_bytes()
    for name, value in {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("LOCAL_RANK", rank)
        outcome = run_cli(*words)
        assert outcome == (first if rank == "0" else (0, "", ""))
        assert Run(trained_run).evaluation("val").read_bytes() == stored


def test_the_example_for_slurm_is_a_script_with_a_command_that_parses(run_cli: Any) -> None:
    script = EXAMPLES / "slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    text = script.read_text().replace("\\\n", " ")
    commands = [line.split("-m vitcli ")[1].split() for line in text.splitlines() if "-m vitcli " in line]
    assert len(commands) == 1
    parsed = [word for word in commands[0] if not word.startswith(("$", '"$'))]
    outcome = run_cli(*parsed, "--help")
    assert outcome.code == 0
    options = {word for word in parsed if word.startswith("--")}
    assert options
    assert all(option in outcome.out for option in options)
