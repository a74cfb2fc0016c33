"""Runs that resume: what may change, what is refused, and what becomes of faults; kills are in test_resume_killed.py."""

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file

from tests.builders.runs import RUN, TINY, Listener, Stopped, results, stopped_run, whole_results
from vitcli.core.errors import RunError
from vitcli.core.events import EpochRecord, Event, TaskProgress, TrainingAhead, TrainingProgress, Warned
from vitcli.core.runs import Run
from vitcli.engine.checkpoint import load_checkpoint, save_checkpoint
from vitcli.engine.state import load_state
from vitcli.training import duration
from vitcli.workflows.resume import resume
from vitcli.workflows.train import train

RunCli = Callable[..., Any]


@pytest.fixture(scope="module")
def stopped(shapes: Path, tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """A run that was stopped after its first epoch, for what is refused: it stays as it is."""
    folder = tmp_path_factory.mktemp("stopped")
    where = {"data": {"name": str(shapes), "dir": str(data_dir)}, "run": {"output_dir": str(folder)}}
    with pytest.raises(Stopped):
        train(TINY, where, emit=Listener(1))
    return folder / "run"


# what may change, and what may not


def test_where_things_are_and_what_computes_may_change(
    image_folder: Callable[..., Path], run_cli: RunCli, tmp_path: Path
) -> None:
    folder = image_folder(tmp_path / "shapes", {"left": 10, "right": 10})
    expected = whole_results(folder)
    stopped_run(folder)
    (tmp_path / "elsewhere").mkdir()
    moved = folder.rename(tmp_path / "elsewhere" / "shapes")
    shutil.move(RUN, "elsewhere/run")
    free = ("--workers", "1", "--cache", "ram", "--device", "cpu", "--data-dir", "prepared", "--offline")
    outcome = run_cli("train", moved, "--resume", "elsewhere/run", *free, "--save-every", "4")
    assert outcome.code == 0, outcome.err
    assert "resuming run run in epoch 3" in outcome.err
    found = dict(results(Path("elsewhere")))
    weights = [each["run/checkpoints/last.safetensors"][0] for each in (found, expected)]
    assert weights[0] == weights[1]
    assert found["run/metrics.json"] == expected["run/metrics.json"]
    assert "run/checkpoints/epoch-0004.safetensors" in found
    assert found["run/config.json"]["data"]["name"] == str(moved)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--lr", "0.1"), ["--lr 0.1 (was 0.0"]),
        (("--mixup", "0.3", "--seed", "7"), ["--mixup 0.3 (was 0.0)", "--seed 7 (was 42)"]),
        (("--model", "vit-micro-patch4"), ["--model 'vit-micro-patch4' (was"]),
        (("--set", "model.depth=2"), ["model.depth = 2 (was 1)"]),
        (("--name", "other"), ["--name 'other' (was 'run')"]),
        (("--overwrite",), ["--overwrite True (was False)"]),
        (("mnist",), ["data.name = 'mnist' (was"]),
        (("--val-fraction", "0.3"), ["--val-fraction 0.3 (was"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_would_make_it_another_run_is_refused_with_the_list(
    run_cli: RunCli, stopped: Path, words: tuple[str, ...], said: list[str]
) -> None:
    before = dict(results(stopped)), (stopped / "run.json").read_bytes()
    outcome = run_cli("train", "--resume", stopped, *words)
    assert outcome.code == 1
    assert all(each in outcome.err for each in said)
    assert f"--init-from {stopped} starts from its weights" in outcome.err
    assert (dict(results(stopped)), (stopped / "run.json").read_bytes()) == before


def test_the_flags_that_a_run_began_with_may_be_given_again(
    run_cli: RunCli, shapes: Path, tiny: tuple[str, ...], trained_run: Path
) -> None:
    shutil.copy(Run(trained_run).best_checkpoint, "weights.safetensors")
    begin = ("train", shapes, *tiny, "--name", "run", "--opt", "adamw", "--lr", "0.01", "--seed", "3")
    begin += ("--init-from", "weights.safetensors")
    assert run_cli(*begin).code == 0
    outcome = run_cli(*begin, "--resume", "run", "--epochs", "2")
    assert outcome.code == 0, outcome.err


def test_more_epochs_are_trained_and_what_becomes_of_the_schedule_is_said(run_cli: RunCli, shapes: Path) -> None:
    train({"data": {"name": str(shapes)}}, TINY, {"optim": {"epochs": 2}})
    outcome = run_cli("train", "--resume", "run", "--epochs", "5", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["epochs"] == 5
    assert "5 epochs instead of 2: the schedule is adjusted" in outcome.err
    rates = [record["learning_rate"] for record in Run(RUN).metrics["epochs"]]
    assert rates[1] < rates[2] > rates[3] > rates[4]
    assert Run(RUN).config["optim"]["epochs"] == 5
    outcome = run_cli("train", "--resume", "run", "--epochs", "3")
    assert outcome.code == 1
    assert "--epochs 3: run run has already begun epoch 5" in outcome.err


def test_what_becomes_of_an_average_of_epochs_is_said(run_cli: RunCli, shapes: Path) -> None:
    train({"data": {"name": str(shapes)}}, TINY, {"optim": {"epochs": 4, "swa_epochs": 2}})
    outcome = run_cli("train", "--resume", "run", "--epochs", "5")
    assert "the average of the last 2 epochs will have only the 1 epoch still to come" in outcome.err
    outcome = run_cli("train", "--resume", "run", "--epochs", "8")
    assert outcome.code == 0, outcome.err
    assert "the average of the weights begins again, with epoch 7" in outcome.err


def test_sizes_of_images_that_change_with_the_epochs_are_said(run_cli: RunCli, shapes: Path) -> None:
    train({"data": {"name": str(shapes)}}, TINY, {"optim": {"epochs": 2, "progressive": 0.5}})
    outcome = run_cli("train", "--resume", "run", "--epochs", "4")
    assert outcome.code == 0, outcome.err
    assert "the sizes of images (--progressive) are spread over all epochs again" in " ".join(outcome.err.split())


def test_micro_batches_are_not_measured_again(run_cli: RunCli, shapes: Path) -> None:
    stopped_run(shapes)
    outcome = run_cli("train", "--resume", "run", "--grad-accum-steps", "0")
    assert outcome.code == 0, outcome.err
    assert "micro-batches are not measured again: a batch stays in 1" in " ".join(outcome.err.split())
    assert Run(RUN).config["optim"]["grad_accum_steps"] == 1


def test_another_machine_or_number_of_cores_is_said(run_cli: RunCli, shapes: Path) -> None:
    stopped_run(shapes)
    file = Path(RUN) / "run.json"
    info = json.loads(file.read_text())
    info["computed"] |= {"training": "bfloat16", "machine": {**info["computed"]["machine"], "threads": 99}}
    file.write_text(json.dumps(info))
    outcome = run_cli("train", "--resume", "run")
    assert outcome.code == 0, outcome.err
    said = " ".join(outcome.err.split())
    assert "this is not the machine of before, or not its number of cores, so the last digits may differ" in said
    assert "training computes in float32 from here on, and did in bfloat16" in said


def test_without_a_schedule_a_longer_training_is_as_if_it_had_been_meant_to_be_so_long(
    run_cli: RunCli, shapes: Path
) -> None:
    schedule_free = {"optim": {"optimizer": "schedule-free"}}
    expected = whole_results(shapes, schedule_free)
    train({"data": {"name": str(shapes)}}, TINY, schedule_free, {"optim": {"epochs": 2}})
    outcome = run_cli("train", "--resume", "run", "--epochs", "4")
    assert outcome.code == 0, outcome.err
    assert "4 epochs instead of 2: the learning rate of the next step stays 0.002" in outcome.err
    assert dict(results(Path("experiments"))) == expected


def test_a_finished_run_says_so_with_the_next_command(run_cli: RunCli, shapes: Path) -> None:
    train({"data": {"name": str(shapes)}}, TINY, {"optim": {"epochs": 1}})
    before = (RUN / "run.json").read_bytes()
    outcome = run_cli("train", "--resume", "run")
    assert outcome.code == 1
    assert "run run is finished, after 1 epoch\n" in outcome.err
    assert "vit train --resume run --epochs 2" in outcome.err
    assert "--init-from experiments/run" in outcome.err
    assert (RUN / "run.json").read_bytes() == before


def test_a_run_that_patience_ended_goes_on_with_more_of_it(run_cli: RunCli, shapes: Path) -> None:
    still: dict[str, Any] = {"optim": {"lr": 1e-12, "adamw_lr": 1e-12, "patience": 1, "epochs": 6}}
    train({"data": {"name": str(shapes)}}, TINY, still)
    ended = len(Run(RUN).metrics["epochs"])
    assert ended < 6
    outcome = run_cli("train", "--resume", "run")
    assert outcome.code == 1
    assert "--patience 0` continues it" in outcome.err
    assert run_cli("train", "--resume", "run", "--patience", "0").code == 0
    assert len(Run(RUN).metrics["epochs"]) == 6


def test_a_name_that_is_no_run_gets_the_nearest_one(run_cli: RunCli, stopped: Path) -> None:
    outcome = run_cli("train", "--resume", "rum", "--output-dir", stopped.parent)
    assert outcome.code == 1
    assert f"no run 'rum' in {stopped.parent}" in outcome.err
    assert "did you mean 'run'?" in outcome.err


def test_without_a_name_the_newest_unfinished_run_is_resumed(run_cli: RunCli, shapes: Path) -> None:
    """However the option without a name is written."""
    for name in ("older", "run", "newer"):
        with contextlib.suppress(Stopped):
            train(
                TINY, {"data": {"name": str(shapes)}, "run": {"name": name}}, emit=Listener(1 if name != "newer" else 0)
            )
    Run(RUN).note(status="running")  # as if it had been killed
    outcome = run_cli("train", "--resume", "--json")
    assert outcome.code == 0, outcome.err
    assert "the newest unfinished run is run (killed)" in outcome.err
    assert json.loads(outcome.out)["run"] == "run"
    outcome = run_cli("train", "--json", "--resume")
    assert "the newest unfinished run is older (interrupted)" in outcome.err
    assert json.loads(outcome.out)["run"] == "older"
    refused = run_cli("train", "--json", "--resume=")
    assert refused.code == 1
    assert "error: no unfinished run in experiments" in refused.err
    assert "`vit train --resume RUN --epochs NUMBER` trains a finished one longer" in refused.err


def test_the_newest_unfinished_run_on_named_data_is_resumed(
    run_cli: RunCli, shapes: Path, image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    other = image_folder(tmp_path / "other", {"left": 12, "right": 12})
    for name, data in (("run", shapes), ("newer", other)):
        with pytest.raises(Stopped):
            train(TINY, {"data": {"name": str(data)}, "run": {"name": name}}, emit=Listener(1))
    outcome = run_cli("train", shapes, "--resume")
    assert outcome.code == 0, outcome.err
    assert "the newest unfinished run on these data is run (interrupted)" in outcome.err
    outcome = run_cli("train", shapes, "--resume")
    assert "the newest unfinished run is newer (interrupted)" in outcome.err
    assert "is not the data of run newer" in outcome.err, "those data may be in another place now"


def test_the_run_that_was_worked_on_last_counts_as_the_newest(run_cli: RunCli, shapes: Path) -> None:
    for name in ("run", "newer"):
        with pytest.raises(Stopped):
            train(TINY, {"data": {"name": str(shapes)}, "run": {"name": name}}, emit=Listener(1))
    with pytest.raises(Stopped):
        resume("run", emit=Listener(2))
    assert "the newest unfinished run is run (interrupted)" in run_cli("train", "--resume").err


def test_without_a_name_a_cross_validation_goes_on_as_a_whole(run_cli: RunCli, shapes: Path) -> None:
    folds = {"data": {"name": str(shapes), "folds": 3, "fold": 1}}
    with pytest.raises(Stopped):
        train(TINY, folds, emit=Listener(1))
    outcome = run_cli("train", "--resume")
    assert outcome.code == 0, outcome.err
    assert "the newest unfinished run is run/fold-1 (interrupted): its cross-validation is resumed" in outcome.err
    assert "`vit train --resume run/fold-1` resumes this fold alone" in outcome.err
    assert "fold 3 of 3" in outcome.err
    assert outcome.err.count("so one patch may contain a whole object") == 1, "warnings about all folds are said once"
    assert Run(RUN / "fold-3").status == "finished"


def test_hints_can_be_typed_whatever_folders_are_called(run_cli: RunCli, shapes: Path) -> None:
    there = {"run": {"output_dir": "my runs", "name": "my run"}, "data": {"name": str(shapes), "folds": 2, "fold": 1}}
    with pytest.raises(Stopped):
        train(TINY, there, emit=Listener(1))
    outcome = run_cli("train", "--resume", "--output-dir", "my runs")
    alone = "`vit train --resume 'my run/fold-1' --output-dir 'my runs'` resumes this fold alone"
    assert alone in outcome.err
    refused = run_cli(*shlex.split(alone.split("`")[1])[1:])
    again = "`vit train --resume 'my runs/my run/fold-1' --epochs"
    assert again in refused.err.replace(str(Path.cwd()) + "/", "")


def test_the_test_accuracy_of_an_earlier_epoch_is_not_shown_as_that_of_the_run(run_cli: RunCli, shapes: Path) -> None:
    keeps_last = {"optim": {"keep": "last", "ema": False}}
    train({"data": {"name": str(shapes)}}, TINY, keeps_last)
    assert run_cli("eval").code == 0
    before = Run(RUN).test_accuracy
    assert before is not None
    outcome = run_cli("train", "--resume", "run", "--epochs", "5")
    assert outcome.code == 0, outcome.err
    (row,) = json.loads(run_cli("runs", "--json").out)
    assert (row["test_accuracy"], row["test_outdated"]) == (None, True)
    listed = run_cli("runs")
    assert (
        "no test accuracy is shown for run, because it was trained further after the evaluation;"
        " `vit eval --model experiments/run` evaluates run again"
    ) in " ".join(listed.err.split())
    assert run_cli("eval").code == 0
    (row,) = json.loads(run_cli("runs", "--json").out)
    assert row["test_accuracy"] is not None
    assert row["test_outdated"] is False
    assert run_cli("runs").err == ""


def test_a_dry_run_of_what_has_begun_is_refused(run_cli: RunCli, stopped: Path) -> None:
    outcome = run_cli("train", "--resume", stopped, "--dry-run")
    assert outcome.code == 2
    assert "--resume and --dry-run do not go together" in outcome.err


def test_a_run_that_ended_before_it_began_is_started_again(run_cli: RunCli, shapes: Path) -> None:
    (stopped_run(shapes, after=1).path / "split.json").unlink()
    for name in ("run", "folds"):
        outcome = run_cli("train", "--resume", name)
        assert outcome.code == 1
        assert f"run {name} ended before training began" in outcome.err
        assert f"--name {name} --overwrite" in outcome.err
        shutil.copytree(RUN, "experiments/folds/fold-1", dirs_exist_ok=True)
        Run(Path("experiments/folds/fold-1")).note(fold=1)


def test_changed_data_are_refused(image_folder: Callable[..., Path], run_cli: RunCli, tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "shapes", {"left": 10, "right": 10})
    stopped_run(folder)
    Image.new("L", (8, 8)).save(folder / "left" / "new.png")
    before = dict(results(RUN))
    outcome = run_cli("train", "--resume", "run")
    assert outcome.code == 1
    assert f"{folder} is not the data of run run" in outcome.err
    assert "--init-from experiments/run" in outcome.err
    (folder / "left" / "new.png").unlink()
    assert dict(results(RUN)) == before
    assert run_cli("train", "--resume", "run").code == 0


# what a run knows of it


def test_a_resumed_run_counts_its_resumptions_and_keeps_its_seconds(run_cli: RunCli, shapes: Path) -> None:
    run = stopped_run(shapes, after=1)
    assert run.status == "interrupted"
    seconds = run.info["seconds"]
    for stop_after in (2, 3):
        listener = Listener(stop_after)
        with pytest.raises(Stopped):
            resume("run", emit=listener)
        assert listener.epochs == [stop_after]
        assert Run(RUN).info["seconds"] > seconds
        seconds = Run(RUN).info["seconds"]
    outcome = run_cli("train", "--resume", "run", "--json")
    assert json.loads(outcome.out)["seconds"] > seconds
    run = Run(RUN)
    assert (run.status, len(run.info["resumed"])) == ("finished", 3)
    rows = json.loads(run_cli("runs", "--json").out)
    assert [(row["name"], row["status"], row["epochs"], row["resumed"]) for row in rows] == [("run", "finished", 4, 3)]
    assert rows[0]["seconds"] == run.info["seconds"]


def test_the_best_checkpoint_is_never_replaced_by_a_worse_one(shapes: Path) -> None:
    run = stopped_run(shapes, after=1)
    best = load_checkpoint(run.best_checkpoint)
    better = {"epoch": 1, "val_accuracy": 1.5, "val_loss": 0.0}
    save_checkpoint(run.best_checkpoint, best.__class__(**{**as_fields(best), "provenance": better}))
    kept = run.best_checkpoint.read_bytes()
    resume("run")
    assert run.best_checkpoint.read_bytes() == kept
    assert load_checkpoint(run.checkpoint("last")).provenance["epoch"] == 4


def as_fields(checkpoint: Any) -> dict[str, Any]:
    return {name: getattr(checkpoint, name) for name in checkpoint.__dataclass_fields__}


def test_what_a_kill_kept_from_being_published_is_published(shapes: Path) -> None:
    """Between the state and what follows from it: the best checkpoint and the metrics are those of the epoch before."""
    expected = whole_results(shapes)
    run = stopped_run(shapes, after=1)
    run.best_checkpoint.unlink()
    (RUN / "metrics.json").write_text(json.dumps({"schema": 1, "best": None, "epochs": []}))
    with pytest.raises(Stopped):
        resume("run", emit=stop_at_the_first_step)
    assert len(run.metrics["epochs"]) == 1
    assert run.best_checkpoint.is_file()
    resume("run")
    assert dict(results(Path("experiments"))) == expected


def stop_at_the_first_step(event: Event) -> None:
    if isinstance(event, TrainingProgress):
        raise Stopped


def test_features_of_a_frozen_backbone_are_read_again(shapes: Path) -> None:
    frozen: dict[str, Any] = {"optim": {"train_only": "head", "optimizer": "adamw"}, "augment": {"feature_views": 1}}
    expected = whole_results(shapes, frozen)
    run = stopped_run(shapes, frozen)
    listener = Listener()
    resume("run", emit=listener)
    assert not [event for event in listener.events if isinstance(event, TaskProgress) and "features" in event.task]
    assert dict(results(Path("experiments"))) == expected
    assert load_file(run.cache("features"))


def test_folds_go_on_with_the_one_that_was_stopped_and_those_that_are_missing(
    shapes: Path, run_cli: RunCli, tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("train", str(shapes), *tiny, "--folds", "3", "--device", "cpu", "--name", "run")
    assert run_cli(*options).code == 0
    expected = dict(results(Path("experiments")))
    first = Run(RUN / "fold-1").info
    shutil.rmtree(RUN / "fold-3")
    Run(RUN / "fold-2").note(status="running")
    (RUN / "folds.json").unlink()
    monkeypatch.setattr(duration, "_LONG", 0)  # the time is estimated of short trainings too
    listener = Listener()
    result = resume("run", emit=listener)
    assert [fold.run for fold in result.folds] == [f"run/fold-{fold}" for fold in (1, 2, 3)]
    ahead = [event.runs for event in listener.events if isinstance(event, TrainingAhead)]
    assert ahead == [1], "fold 3; fold 2 has all its epochs"
    assert dict(results(Path("experiments"))) == expected
    assert Run(RUN / "fold-1").info == first
    outcome = run_cli("train", "--resume", "run")
    assert outcome.code == 1
    assert "all 3 folds of run are finished" in outcome.err


# faults


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("fault", [cut_in_half, Path.unlink])
def test_a_state_that_is_broken_or_gone_gives_way_to_the_one_before(
    shapes: Path, fault: Callable[[Path], None]
) -> None:
    expected = whole_results(shapes)
    run = stopped_run(shapes, after=3)
    newest, before = run.states
    assert (load_state(newest)["epoch"], load_state(before)["epoch"]) == (4, 3)
    fault(newest)
    listener = Listener()
    resume("run", emit=listener)
    assert listener.epochs == [3, 4]
    assert ("the previous state is used" in listener.said(Warned)) == (fault is cut_in_half)
    assert dict(results(Path("experiments"))) == expected


def test_without_any_whole_state_the_weights_are_offered(run_cli: RunCli, shapes: Path) -> None:
    run = stopped_run(shapes)
    for path in run.states:
        cut_in_half(path)
    outcome = run_cli("train", "--resume", "run")
    assert outcome.code == 1
    assert "run run has no training state that can be read" in outcome.err
    assert "vit train --init-from experiments/run" in outcome.err


def test_a_second_process_is_refused_and_a_killed_one_is_known(run_cli: RunCli, shapes: Path) -> None:
    run = stopped_run(shapes)
    run.note(status="running")

    def listed() -> str:
        (row,) = json.loads(run_cli("runs", "--json").out)
        return str(row["status"])

    assert listed() == "killed"  # nobody trains it
    code = "import sys, time; from pathlib import Path; from vitcli.data.locks import alone_in\n"
    code += "with alone_in(Path(sys.argv[1]), otherwise=Exception()): print('mine', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, RUN], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == b"mine\n"
            assert listed() == "running"
            for words in (("--resume", "run"), (shapes, "--name", "run", "--overwrite")):
                outcome = run_cli("train", *words)
                assert outcome.code == 1
                assert f"another process is training {RUN}" in outcome.err
        finally:
            other.kill()
    assert listed() == "killed"
    outcome = run_cli("train", "--resume", "run")  # the lock died with its process
    assert outcome.code == 0, outcome.err


# disks


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files are POSIX's")
def test_a_disk_that_refuses_a_state_ends_the_run_and_resuming_works_when_there_is_room(shapes: Path) -> None:
    import resource

    expected = whole_results(shapes)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def listen(event: Event) -> None:
        if isinstance(event, EpochRecord) and event.epoch == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))  # more than weights, less than a state

    try:
        with pytest.raises(RunError, match=f"{RUN} cannot be written: File too large") as caught:
            train({"data": {"name": str(shapes)}}, TINY, emit=listen)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "then `vit train --resume run` continues the run" in caught.value.hint
    assert Run(RUN).status == "failed"
    assert not any(RUN.rglob(".*.tmp*"))
    listener = Listener()
    resume("run", emit=listener)
    assert listener.epochs[-1] == 4
    assert dict(results(Path("experiments"))) == expected


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root of a Linux may mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_ends_the_run_and_resuming_works_when_there_is_room(shapes: Path, small_disk: Path) -> None:
    """Nothing at all can be written from the second epoch on, not even how the run ended."""
    expected = whole_results(shapes)
    filler = small_disk / "filler"

    def listen(event: Event) -> None:
        if isinstance(event, EpochRecord) and event.epoch == 2:
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass

    where: dict[str, Any] = {"run": {"output_dir": str(small_disk)}}
    with pytest.raises(RunError, match=f"the disk of {small_disk}/run is full") as caught:
        train({"data": {"name": str(shapes)}}, TINY, where, emit=listen)
    assert f"make room there, then `vit train --resume {small_disk}/run` continues the run" in caught.value.hint
    filler.unlink()
    resume(f"{small_disk}/run")
    found = dict(results(small_disk))
    for name in ("run/checkpoints/state.safetensors", "run/metrics.json"):
        assert found[name] == expected[name]
    assert Run(small_disk / "run").status == "finished"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root, and Windows, may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(run_cli: RunCli, shapes: Path) -> None:
    run = stopped_run(shapes)
    checkpoints = run.checkpoint("last").parent
    checkpoints.chmod(0o500)
    outcome = run_cli("train", "--resume", "run")
    checkpoints.chmod(0o700)
    assert outcome.code == 1
    assert "cannot be written: Permission denied" in outcome.err
    assert "vit train --resume run" in outcome.err
    assert run_cli("train", "--resume", "run").code == 0
