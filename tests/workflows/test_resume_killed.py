"""Training that is killed, at any moment, and resumed: to the bit as if that had never happened."""

import json
import os
import signal
import sys
import time
from itertools import count
from multiprocessing.context import ForkServerContext
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.builders.processes import NEVER, Moment, exit_code, running, vit
from tests.builders.runs import results
from vitcli.cli.app import main
from vitcli.core import interrupts
from vitcli.core.runs import Run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")

LENGTH = ("--epochs", "6", "--batch-size", "8", "--save-steps", "1", "--device", "cpu")
RUNS = {
    "muon, average, mixing": ("--opt", "muon", "--ema", "--ema-decay", "0.8", "--mixup", "0.8", "--cutmix", "1"),
    "adamw, augmentation, balanced classes, growing images": (
        *("--opt", "adamw", "--balanced-sampling", "--drop-path", "0.3", "--set", "model.dropout=0.2"),
        *("--set", "augment.crop_padding=1", "--set", "augment.erase=0.5", "--save-every", "2", "--patience", "5"),
        *("--progressive", "0.5"),
    ),
    "adam, low-rank changes, mean of epochs": (
        *("--opt", "adam", "--lora", "2", "--grad-accum-steps", "2", "--swa-epochs", "4"),
    ),
    "sgd, features of a frozen backbone": (
        *("--opt", "sgd", "--freeze-backbone", "--head-dropout", "0.3", "--feature-views", "2"),
        *("--set", "augment.flip=0.5"),
    ),
    "folds": ("--folds", "2", "--epochs", "3"),
}


def vit_on_a_slow_disk(folder: Path, words: tuple[str, ...]) -> None:
    """A command whose second state takes some minutes to get its name; signals of a fifth of a second are one."""
    os.chdir(folder)
    interrupts._ONE_REQUEST_SECONDS = 0.2
    numbers = count(1)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename" and Path(arguments[1]).name == "state.safetensors" and next(numbers) == 2:
            (folder / "is-writing").touch()
            time.sleep(300)

    sys.addaudithook(watch)
    sys.argv = ["vit", *words]
    with (folder / "said.txt").open("a") as said:
        sys.stdout = sys.stderr = said
        main()


def test_a_second_signal_ends_a_run_at_once_whatever_is_being_written(
    processes: ForkServerContext, shapes: Path, tiny: tuple[str, ...], data_dir: Path, tmp_path: Path
) -> None:
    words = ("train", str(shapes), *tiny, *LENGTH, "--data-dir", str(data_dir), "--name", "run")
    with running(processes.Process(target=vit_on_a_slow_disk, args=(tmp_path, words))) as process:
        assert process.pid is not None
        while not (tmp_path / "is-writing").exists():
            assert process.is_alive()
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGINT)
        time.sleep(1)  # two signals of one moment are one, and a busy machine takes the first one late
        assert process.is_alive()
        os.kill(process.pid, signal.SIGINT)
        process.join(60)
        assert process.exitcode == 130
    assert (
        "stopped by Ctrl-C at once\nhint: `vit train --resume run` continues the run"
        in (tmp_path / "said.txt").read_text()
    )
    run = tmp_path / "experiments" / "run"
    assert any(run.rglob(".*.tmp*"))
    again = processes.Process(target=vit, args=(tmp_path, ("train", "--resume", "run")))
    assert exit_code(again) == 0, (tmp_path / "said.txt").read_text()
    assert not any(run.rglob(".*.tmp*"))
    assert Run(run).status == "finished"
    assert len(Run(run).metrics["epochs"]) == 6


@pytest.mark.parametrize("options", RUNS.values(), ids=RUNS)
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(
    processes: ForkServerContext,
    shapes: Path,
    tiny: tuple[str, ...],
    data_dir: Path,
    tmp_path: Path,
    options: tuple[str, ...],
) -> None:
    begin = ("train", str(shapes), *tiny, *LENGTH, *options, "--data-dir", str(data_dir), "--name", "run")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()

    def live(folder: Path, *words: str, kill: Moment = NEVER) -> int | None:
        return exit_code(processes.Process(target=vit, args=(folder, words, kill)))

    assert live(whole, *begin) == 0, (whole / "said.txt").read_text()
    counts = json.loads((whole / "counts.json").read_text())
    random = Random(list(RUNS.values()).index(options))
    run = cut / "experiments" / "run"
    for kind in ("os.rename", "step", "open"):
        words = ("train", "--resume", "run") if any(run.rglob("split.json")) else (*begin, "--overwrite")
        # Each try gets almost a third of the way, and together they do not get to the end.
        kill = Moment(kind, random.randint(3 * counts[kind] // 10, counts[kind] // 3))
        assert live(cut, *words, kill=kill) == -signal.SIGKILL, (cut / "said.txt").read_text()
        if kind == "os.rename":
            assert any(run.rglob(".*.tmp*")) or not run.exists()  # a file was written, and had no name yet
    done, all_epochs = (
        sum(len(Run(path.parent).metrics["epochs"]) for path in folder.rglob("metrics.json")) for folder in (cut, whole)
    )
    assert 3 * done >= all_epochs  # what was killed was not only the beginning
    assert live(cut, "train", "--resume", "run") == 0, (cut / "said.txt").read_text()
    assert not any(run.rglob(".*.tmp*"))
    found = dict(results(cut / "experiments"))
    assert found == dict(results(whole / "experiments"))
    assert any(name.endswith("state.safetensors") for name in found)
    assert {Run(path.parent).status for path in run.rglob("run.json")} == {"finished"}
