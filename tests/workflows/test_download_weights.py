"""`vit download` for weights: one namespace and one listing with data sets."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
import timm
from huggingface_hub import constants
from huggingface_hub.utils import close_session
from safetensors.torch import save

from tests.builders.processes import NEVER, running, vit
from tests.conftest import Outcome
from tests.servers.hub import Hub, serving_hub
from vitcli.core.events import Event, Note, ignore
from vitcli.data.locks import only_one
from vitcli.data.store import weights_dir
from vitcli.models.hub import file_of, find_pretrained
from vitcli.models.pretrained import PRETRAINED
from vitcli.trained.fetching import fetched_weights

RunCli = Callable[..., Outcome]
REPOSITORY = PRETRAINED["augreg-tiny"].hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub that has small weights under the name of large ones."""
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, embed_dim=64, depth=1, num_heads=1)
    content = save({key: value.contiguous() for key, value in model.state_dict().items()})
    with serving_hub(Hub(files={f"{REPOSITORY}/model.safetensors": content})) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", value=True)
        yield server
    close_session()


def test_weights_are_fetched_once_and_used_by_name(run_cli: RunCli, hub: Hub, shapes: Path) -> None:
    outcome = run_cli("download", "augreg-tiny")
    assert outcome.code == 0, outcome.err
    assert "licence       Apache-2.0" in outcome.out
    assert "--init-from augreg-tiny" in outcome.err
    before = hub.requests
    again = run_cli("download", "augreg-tiny", "--json")
    assert json.loads(again.out)["was_there"] is True
    words = ("--epochs", "1", "--batch-size", "4", "--image-size", "32", "--pretrained", "--offline", "--name", "tuned")
    trained = run_cli("train", shapes, *words)
    assert trained.code == 0, trained.err
    assert "patch_embedding.projection.weight (3 to 1 channel)" in trained.err
    assert hub.requests == before


@pytest.mark.usefixtures("hub")
def test_any_repository_of_the_hub_can_be_named(run_cli: RunCli, shapes: Path) -> None:
    image = next(shapes.glob("left/*.png"))
    outcome = run_cli("predict", image, "--model", f"hf:{REPOSITORY}", "--json")
    assert outcome.code == 0, outcome.err
    assert "this is a guess: ImageNet's mean" in outcome.err
    assert json.loads(outcome.out)["model"] == REPOSITORY.split("/")[1]


@pytest.mark.usefixtures("hub")
def test_the_folder_of_data_sets_is_repeated_and_is_not_for_weights(run_cli: RunCli) -> None:
    assert "next: vit train --data-dir 'my data'" in run_cli("download", "digits", "--data-dir", "my data").err
    weights = run_cli("download", "augreg-tiny", "--data-dir", "my data")
    assert weights.code == 0, weights.err
    assert "--data-dir is for data sets; weights are in " in weights.err


@pytest.mark.usefixtures("hub")
def test_the_listing_has_everything_and_says_what_is_here(run_cli: RunCli) -> None:
    assert run_cli("download", "augreg-tiny").code == 0
    rows = {row["name"]: row for row in json.loads(run_cli("download", "--json").out)}
    assert set(PRETRAINED) < set(rows)
    assert rows["digits"] | {"kind": "data set", "size_mb": 0, "present": True} == rows["digits"]
    assert rows["augreg-tiny"] | {"kind": "weights", "licence": "Apache-2.0", "present": True} == rows["augreg-tiny"]
    assert not rows["augreg-base"]["present"]
    table = run_cli("download").out
    assert "deit-tiny" in table
    assert "72.20 %" in table


def test_an_unknown_name_is_answered_with_the_nearest_of_both_kinds(run_cli: RunCli) -> None:
    for wrong, near in (("minst", "mnist"), ("deit-tinny", "deit-tiny")):
        outcome = run_cli("download", wrong)
        assert outcome.code == 1
        assert f"did you mean '{near}'?" in outcome.err


def test_two_processes_that_want_one_file_fetch_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread stands for the second process: its lock is another one too."""
    monkeypatch.setenv("VIT_DATA_DIR", str(tmp_path))
    entry = find_pretrained("http://127.0.0.1:9/tiny.safetensors")  # nobody answers there
    assert entry is not None
    path, said = file_of(entry, weights_dir()), list[Event]()
    with ThreadPoolExecutor() as pool, only_one(path, "fetching it", ignore):
        second = pool.submit(fetched_weights, entry, emit=said.append)
        ended = time.monotonic() + 20
        while not said and not second.done() and time.monotonic() < ended:
            time.sleep(0.01)
        assert said == [Note(text=f"another process is fetching {entry.url}; waiting for it")]
        path.write_bytes(b"fetched by the first")
    assert second.result().read_bytes() == b"fetched by the first"


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_ctrl_c_keeps_what_has_arrived_and_says_how_to_resume(
    processes: ForkServerContext, data_dir: Path, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/slow.safetensors"
        words, environment = ("download", url), {"VIT_DATA_DIR": str(data_dir)}
        with running(processes.Process(target=vit, args=(tmp_path, words, NEVER, environment))) as process:
            answer, _ = server.accept()
            with answer:
                answer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n" + bytes(2**20))
                while not any(part.stat().st_size == 2**20 for part in data_dir.rglob("slow.safetensors.part")):
                    assert process.is_alive()
                    time.sleep(0.01)
                assert process.pid is not None
                os.kill(process.pid, signal.SIGINT)
                process.join(60)
            assert process.exitcode == 130
    said = (tmp_path / "said.txt").read_text()
    assert "stopped by Ctrl-C; what has arrived is kept" in said
    assert f"hint: `vit download {url}` continues it" in said
    assert "Traceback" not in said
    assert any(data_dir.rglob("slow.safetensors.part"))


def test_offline_fetches_nothing(run_cli: RunCli, hub: Hub) -> None:
    outcome = run_cli("download", "augreg-tiny", "--offline")
    assert outcome.code == 1
    assert "is not on this machine" in outcome.err
    assert hub.requests == 0
