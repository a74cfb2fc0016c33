"""What is promised of a training that lives in this world: closed terminals, full logs, folders that go, secrets."""

import json
import os
import shutil
import signal
import time
import warnings
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
from PIL import Image
from safetensors import SafetensorError

from tests.builders.processes import exit_code, running, vit_with_log
from tests.conftest import TINY, Outcome
from vitcli.cli.streams import Unbreakable
from vitcli.core.errors import RunError
from vitcli.core.events import EpochRecord, Event
from vitcli.core.runs import Run
from vitcli.models.export.registry import EXPORTS
from vitcli.workflows.train import train

RunCli = Callable[..., Outcome]
SETTINGS = {
    "model": {"depth": 1, "width": 16, "num_heads": 2, "mlp_width": 32},
    "run": {"device": "cpu", "amp": "off", "name": "run"},
}


@pytest.fixture
def shapes(image_folder: Callable[..., Path], tmp_path: Path) -> Path:
    return image_folder(tmp_path / "shapes", {"left": 12, "right": 12})


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_a_closed_terminal_ends_as_a_signal_does(shapes: Path, tmp_path: Path, processes: ForkServerContext) -> None:
    words = ("train", str(shapes), *TINY, "--epochs", "100000", "--name", "run")
    with running(processes.Process(target=vit_with_log, args=(tmp_path, words, "file"))) as process:
        metrics = tmp_path / "experiments" / "run" / "metrics.json"
        until = time.monotonic() + 60
        while not metrics.exists() and time.monotonic() < until:
            time.sleep(0.05)
        assert process.pid
        os.kill(process.pid, signal.SIGHUP)
        process.join(60)
        assert process.exitcode == 129
    assert Run(tmp_path / "experiments" / "run").status == "interrupted"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("log", ["full", "closed"])
def test_a_log_that_cannot_be_written_ends_nothing(
    shapes: Path, tmp_path: Path, processes: ForkServerContext, log: str
) -> None:
    words = ("train", str(shapes), *TINY, "--name", "run")
    assert exit_code(processes.Process(target=vit_with_log, args=(tmp_path, words, log))) == 0
    assert Run(tmp_path / "experiments" / "run").status == "finished"


def test_a_stream_of_messages_swallows_errors(tmp_path: Path) -> None:
    stream = (tmp_path / "log").open("w")
    unbreakable = Unbreakable(stream)
    assert unbreakable.write("one") == 3
    stream.close()
    assert unbreakable.write("two") == 3
    unbreakable.flush()
    assert (tmp_path / "log").read_text() == "one"


@pytest.mark.parametrize("how", ["removed", "renamed"])
def test_a_run_whose_folder_goes_away_says_so_and_leaves_no_ghost(shapes: Path, tmp_path: Path, how: str) -> None:
    folder = tmp_path / "experiments" / "run"

    def emit(event: Event) -> None:
        if isinstance(event, EpochRecord) and event.epoch == 2:
            folder.rename(tmp_path / "experiments" / "other")  # at once, although a thread may be writing into it
            if how == "removed":
                shutil.rmtree(tmp_path / "experiments" / "other", ignore_errors=True)

    with pytest.raises(RunError, match="was removed or renamed"):
        train({"data": {"name": str(shapes)}, "optim": {"epochs": 4}}, SETTINGS, emit=emit)
    assert not folder.exists()
    if how == "renamed":
        assert Run(tmp_path / "experiments" / "other").status == "running"


def test_eval_shows_what_it_cannot_store(
    run_cli: RunCli, trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(trained_run, tmp_path / "run"))

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("vitcli.judging.results.write_json", refuse)
    outcome = run_cli("eval", "--model", run)
    assert outcome.code == 0
    assert "top-1" in outcome.out
    assert "could not be stored" in outcome.err
    assert "Permission denied" in outcome.err


def test_secrets_of_an_address_are_not_stored(run_cli: RunCli, shapes: Path, tmp_path: Path) -> None:
    secret = "https://ada:hunter2@example.org/m.pth?X-Signature=hunter3"
    run = Run.create(
        tmp_path / "experiments" / "one", seed=0, versions={}, summary={"dataset": secret, "model": "m", "recipe": ""}
    )
    run.save_config({"run": {"init_from": secret}, "teacher": {"name": secret}})
    run.note(teacher={"name": secret})
    for file in run.path.rglob("*.json"):
        assert "hunter" not in file.read_text()
    assert json.loads((run.path / "config.json").read_text())["run"]["init_from"] == "https://example.org/m.pth"
    outcome = run_cli("train", shapes, "--init-from", secret, "--offline")
    assert outcome.code == 1
    assert "hunter" not in outcome.err


@pytest.mark.parametrize("mode", ["LAB", "CMYK", "HSV", "I", "F"])
def test_a_mode_that_has_no_way_to_grey_loses_no_other_rows(
    run_cli: RunCli, trained_run: Path, tmp_path: Path, mode: str
) -> None:
    Image.new(mode, (8, 8)).save(tmp_path / "odd.tif") if mode != "HSV" else Image.new("RGB", (8, 8)).save(
        tmp_path / "odd.tif"
    )
    Image.new("L", (8, 8)).save(tmp_path / "plain.png")
    outcome = run_cli("predict", tmp_path / "odd.tif", tmp_path / "plain.png", "--model", trained_run, "--json")
    assert outcome.code == 0, outcome.err
    assert len(json.loads(outcome.out)["rows"]) == 2


def test_cells_that_a_spreadsheet_would_compute_get_an_apostrophe_and_lose_it_again(
    run_cli: RunCli, trained_run: Path, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    names = ["=1+1.png", "@sum.png", "+7.png", "-7.png", "'=quoted.png", "plain.png"]
    (tmp_path / "images").mkdir()
    for at, name in enumerate(names):
        Image.new("L", (8, 8), 40 * at).save(tmp_path / "images" / name)
    os.chdir(tmp_path / "images")
    files = [f"./{name}" if name[0] == "-" else name for name in names]
    for words, begins in (((), "'"), (("--raw",), "=")):
        outcome = run_cli("predict", *files, "--model", trained_run, "--csv", tmp_path / "rows.csv", *words)
        assert outcome.code == 0, outcome.err
        rows = (tmp_path / "rows.csv").read_text().splitlines()[1:]
        assert rows[0].startswith(f"{begins}=1+1" if begins == "'" else "=1+1")
    labels = ["image,label", *(f"{name},{'ab'[at % 2]}" for at, name in enumerate(names))]
    labels[1], labels[5] = f"'{labels[1]}", f"'{labels[5]}"  # as --csv writes them
    (tmp_path / "labels.csv").write_text("\n".join(labels))
    checked = run_cli("train", tmp_path / "images", "--labels", tmp_path / "labels.csv", *tiny, "--dry-run", "--json")
    assert sum(json.loads(checked.out)["images"].values()) == len(names), checked.err


@pytest.mark.filterwarnings("always")
def test_a_warning_of_pillow_is_one_line_with_the_name_of_the_image(
    run_cli: RunCli, trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Image.Image.load

    def warning(image: Image.Image) -> object:
        warnings.warn_explicit("Corrupt\ndata", UserWarning, Image.__file__, 1)
        return load(image)

    Image.new("L", (8, 8)).save(tmp_path / "odd.png")
    monkeypatch.setattr(Image.Image, "load", warning)
    outcome = run_cli("predict", tmp_path / "odd.png", "--model", trained_run)
    assert outcome.code == 0, outcome.err
    assert f"warning: {tmp_path / 'odd.png'}: Corrupt data" in outcome.err
    assert "site-packages" not in outcome.err


@pytest.mark.parametrize("name", ["[a]", "my models [2024]", "what?", "all*"])
def test_a_name_that_exists_is_no_pattern(run_cli: RunCli, trained_run: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(trained_run, tmp_path / "experiments" / name)
    image = tmp_path / "image.png"
    Image.new("L", (8, 8)).save(image)
    outcome = run_cli("predict", image, "--model", name, "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["model"] == name
    checkpoint = tmp_path / "experiments" / name / "checkpoints" / "best.safetensors"
    assert run_cli("predict", image, "--model", checkpoint).code == 0


@pytest.mark.parametrize(
    "address", ["https://127.0.0.1:9/m.safetensors?download=true", "http://127.0.0.1:9/a[1].pth?x=*"]
)
def test_an_address_is_no_pattern(run_cli: RunCli, tmp_path: Path, address: str) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "image.png")
    outcome = run_cli("predict", tmp_path / "image.png", "--model", address)
    assert outcome.code == 1
    assert "could not reach" in outcome.err
    assert "matches" not in outcome.err


@pytest.mark.parametrize("kind", ["onnx", "timm"])
def test_a_full_disk_under_an_export_is_one_line(
    run_cli: RunCli, trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def full(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(f"vitcli.models.export.{kind}.write", full)
    outcome = run_cli("export", trained_run, "--format", kind, "--output", tmp_path / EXPORTS[kind].name)
    assert outcome.code == 1
    assert f"the disk of {tmp_path} is full" in outcome.err
    assert list(tmp_path.iterdir()) == []
