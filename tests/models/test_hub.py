"""Weights fetched with the real client of the hub, and from plain addresses, from servers on the loopback device."""

import hashlib
import io
import json
import socket
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.utils import close_session
from safetensors.torch import save

from tests.conftest import naming
from tests.servers.hub import Hub, serving_hub
from vitcli.core import fetch
from vitcli.core.errors import DataError, ModelError
from vitcli.core.events import TaskProgress
from vitcli.models.hub import fetch_weights, file_of, find_pretrained, find_weights
from vitcli.models.pretrained import PRETRAINED, PretrainedEntry, Traits


def zipped(content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("archive/data.pkl"), content)
    return buffer.getvalue()


CONTENT = zipped(bytes(range(256)) * 20_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ENTRY = PretrainedEntry(
    model="vit-tiny-patch16", summary="", licence="", parameters=1, top1=None, traits=Traits(), hub="timm/tiny"
)


@pytest.fixture(autouse=True)
def _no_connection_stays_open():
    yield
    close_session()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(fetch, "_WAIT", 0.01)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with serving_hub(Hub(files={"timm/tiny/model.safetensors": CONTENT, "timm/tiny/config.json": b"{}"})) as server:
        use_hub(monkeypatch, tmp_path, server.address)
        yield server


def use_hub(monkeypatch, tmp_path, address):
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def nothing_is_left(tmp_path, entry=ENTRY):
    return find_weights(entry, tmp_path) is None


def test_weights_of_the_hub_are_fetched_once_with_what_lies_beside_them(hub, tmp_path):
    events = []
    path = fetch_weights(ENTRY, tmp_path, emit=events.append)
    assert path.read_bytes() == CONTENT
    assert (path.parent / "config.json").read_text() == "{}"
    assert events[-1] == TaskProgress(task="fetching timm/tiny (MB)", done=6, total=6)
    before = hub.requests
    assert fetch_weights(ENTRY, tmp_path) == path
    assert hub.requests == before


def test_all_shards_are_fetched_and_only_all_of_them_are_whole(hub, tmp_path):
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = {"weight_map": {"a": names[0], "b": names[1]}}
    hub.files = {
        "timm/large/model.safetensors.index.json": json.dumps(index).encode(),
        **{f"timm/large/{name}": CONTENT + name.encode() for name in names},
    }
    entry = replace(ENTRY, hub="timm/large", file="", sha256="")
    path = fetch_weights(entry, tmp_path)
    assert [path.with_name(name).read_bytes() for name in names] == [CONTENT + name.encode() for name in names]
    before = hub.requests
    assert fetch_weights(entry, tmp_path) == path
    assert hub.requests == before
    path.with_name(names[1]).unlink()
    assert find_weights(entry, tmp_path) is None
    hub.lies = {f"timm/large/{names[1]}": b"x" * len(hub.files[f"timm/large/{names[1]}"])}
    (tmp_path / "hub").rename(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="another file than expected"):
        fetch_weights(entry, tmp_path)


@pytest.mark.usefixtures("hub")
def test_what_the_cache_has_is_used_offline(tmp_path, monkeypatch):
    path = fetch_weights(ENTRY, tmp_path)
    assert fetch_weights(ENTRY, tmp_path, offline=True) == path
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch_weights(ENTRY, tmp_path) == path


@pytest.mark.parametrize("how", ["flag", "environment"])
def test_offline_means_no_request(hub, tmp_path, monkeypatch, how):
    if how == "environment":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="timm/tiny is not on this machine") as refusal:
        fetch_weights(ENTRY, tmp_path, offline=how == "flag")
    assert "--offline" in refusal.value.hint
    assert hub.requests == 0


def test_a_transfer_that_is_cut_is_gone_on_with(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)  # the real client waits for a second
    hub.cut_times = 1
    assert fetch_weights(ENTRY, tmp_path).read_bytes() == CONTENT
    assert len(hub.ranges) == 3  # half of the weights, the weights, their configuration


@pytest.mark.parametrize("known", ["", SHA256])
def test_another_hash_is_refused_and_not_kept(hub, tmp_path, known):
    hub.lies = {"timm/tiny/model.safetensors": CONTENT[::-1]}
    with pytest.raises(ModelError, match="another file than expected"):
        fetch_weights(replace(ENTRY, sha256=known), tmp_path)
    assert nothing_is_left(tmp_path)


@pytest.mark.parametrize("entry", [replace(ENTRY, hub="timm/huge"), replace(ENTRY, file="pytorch_model.bin")])
@pytest.mark.usefixtures("hub")
def test_what_the_hub_does_not_have_is_named(tmp_path, entry):
    with pytest.raises(ModelError, match=f"{entry.hub} on the hub has no {entry.file} at main"):
        fetch_weights(entry, tmp_path)
    assert nothing_is_left(tmp_path, entry)


def test_without_a_network_the_error_comes_at_once(tmp_path, monkeypatch):
    use_hub(monkeypatch, tmp_path, f"http://127.0.0.1:{free_port()}")
    started = time.monotonic()
    with pytest.raises(
        ModelError, match=r"could not reach 127\.0\.0\.1 \(the connection was refused\) for timm/tiny on the hub"
    ) as refusal:
        fetch_weights(ENTRY, tmp_path)
    assert time.monotonic() - started < 10
    assert "check the connection" in refusal.value.hint
    assert nothing_is_left(tmp_path)


@pytest.fixture
def web(hub):
    """A plain address: the storage of the hub."""
    return replace(ENTRY, hub="", url=f"{hub.address}/storage/timm/tiny/model.safetensors")


def test_a_plain_address_is_fetched_verified_and_kept(hub, web, tmp_path):
    events = []
    path = fetch_weights(replace(web, sha256=SHA256[:8]), tmp_path / "weights", emit=events.append)
    assert path.name == "model.safetensors"
    assert path.is_relative_to(tmp_path / "weights")
    assert path.read_bytes() == CONTENT
    assert events[-1] == TaskProgress(task="fetching model.safetensors (MB)", done=6, total=6)
    before = hub.requests
    assert fetch_weights(web, tmp_path / "weights") == path
    assert hub.requests == before
    assert [each for each in (tmp_path / "weights").rglob("*") if each.is_file()] == [path]


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><p>Please log in", b"  <html>", b'{"error": "gone"}', b"plain"])
def test_a_page_instead_of_weights_is_not_kept(hub, web, tmp_path, page):
    good, hub.files = hub.files, dict.fromkeys(hub.files, page)
    with pytest.raises(DataError, match=r"sent no file of weights|announces|could not reach|broke off"):
        fetch_weights(web, tmp_path)
    assert not [each for each in tmp_path.rglob("*") if each.is_file()]
    hub.files = good
    assert fetch_weights(web, tmp_path).read_bytes() == CONTENT


def test_names_in_addresses_stay_below_their_folder(tmp_path):
    for end in ["a%00b.safetensors", "%2e%2e", "..%2f..%2fevil.pth", "x" * 40 + "%0a.pt"]:
        entry = find_pretrained(f"https://example.org/folder/{end}")
        path = file_of(entry, tmp_path / "weights")
        assert path.resolve().parent.parent == (tmp_path / "weights").resolve(), end
        assert path.name.isprintable(), end


def test_weights_that_another_program_fetched_are_completed(hub, tmp_path):
    """As transformers fetches them, without what says how images are prepared."""
    hub.files = {**hub.files, "timm/tiny/preprocessor_config.json": b'{"image_mean": [0.1]}'}
    path = Path(hf_hub_download(ENTRY.hub, ENTRY.file))
    beside = path.with_name("preprocessor_config.json")
    assert fetch_weights(ENTRY, tmp_path, offline=True) == path
    assert not beside.exists()
    address = constants.HUGGINGFACE_CO_URL_TEMPLATE
    with pytest.MonkeyPatch.context() as patch:  # without a network, what is there is used
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address.replace(hub.address, "http://127.0.0.1:9"))
        assert fetch_weights(ENTRY, tmp_path) == path
    assert not beside.exists()
    assert fetch_weights(ENTRY, tmp_path) == path
    assert beside.read_bytes() == b'{"image_mean": [0.1]}'
    before = hub.requests
    assert fetch_weights(ENTRY, tmp_path) == path
    assert hub.requests == before


def test_an_address_with_a_new_signature_names_the_same_file(tmp_path):
    signatures = (
        "X-Sig={}",
        "X-Amz-Date={}&X-Amz-Signature={}",
        "Expires={}&Signature={}",
        "sv=1&se={}&sig={}",
        "token={}",
    )
    for query in signatures:
        asked = [find_pretrained(f"https://ada:pw@h.org/m.pth?{query.format(at, at)}") for at in range(2)]
        assert {file_of(each, tmp_path) for each in asked} == {
            file_of(find_pretrained("https://h.org/m.pth"), tmp_path)
        }


def test_a_file_is_found_by_the_address_that_a_run_remembers(tmp_path):
    """Runs store no queries."""
    bare = find_pretrained("https://h.org/m.pth")
    for count, query in enumerate(("?id=AAA", "?id=BBB"), start=1):
        path = file_of(find_pretrained(f"https://h.org/m.pth{query}"), tmp_path)
        path.parent.mkdir(parents=True)
        path.touch()
        assert find_weights(bare, tmp_path) == (path if count == 1 else None), "of two, neither is meant"
        if count == 1:
            told = []
            assert fetch_weights(bare, tmp_path, emit=told.append) == path
            assert "the only file that was fetched from there, by a longer address" in told[0].text


def test_addresses_that_differ_in_what_they_ask_for_name_different_files(tmp_path):
    queries = ("", "?id=AAA", "?id=BBB", "?export=download&id=AAA", "?v=2", "?key=a.pth", "?key=b.pth")
    assert len({file_of(find_pretrained(f"https://h.org/m.pth{query}"), tmp_path) for query in queries}) == 7


@pytest.mark.parametrize("kind", ["safetensors", "zip"])
def test_a_part_of_a_file_is_not_kept(hub, web, tmp_path, kind):
    """A server that announces no length may end too early."""
    whole = save({"weight": torch.zeros(100)}) if kind == "safetensors" else CONTENT
    good, hub.files = hub.files, dict.fromkeys(hub.files, whole[: 2 * len(whole) // 3])
    with pytest.raises(DataError, match="sent only a part of a file of weights"):
        fetch_weights(web, tmp_path)
    assert not [each for each in tmp_path.rglob("*") if each.is_file()]
    hub.files = dict.fromkeys(good, whole)
    assert fetch_weights(web, tmp_path).read_bytes() == whole


def test_a_cut_transfer_from_a_plain_address_is_gone_on_with(hub, web, tmp_path):
    hub.cut_times = 2
    assert fetch_weights(web, tmp_path).read_bytes() == CONTENT
    half = len(CONTENT) // 2
    assert hub.ranges == ["", f"bytes={half}-", f"bytes={half + half // 2}-"]


def test_what_arrived_before_is_not_fetched_again(hub, web, tmp_path):
    hub.cut_times = 99
    with pytest.raises(DataError):
        fetch_weights(web, tmp_path)
    kept = sum(file.stat().st_size for file in tmp_path.rglob("*.part"))
    assert 0 < kept < len(CONTENT)
    hub.cut_times, hub.ranges = 0, []
    assert fetch_weights(web, tmp_path).read_bytes() == CONTENT
    assert hub.ranges == [f"bytes={kept}-"]


def test_a_transfer_that_breaks_for_good_keeps_what_arrived(hub, web, tmp_path):
    hub.cut_times = 99
    with pytest.raises(DataError, match="broke off") as refusal:
        fetch_weights(web, tmp_path)
    assert "is kept" in refusal.value.hint
    assert nothing_is_left(tmp_path, web)
    hub.cut_times = 0
    assert fetch_weights(web, tmp_path).read_bytes() == CONTENT


def test_a_wrong_hash_from_a_plain_address_leaves_nothing(web, tmp_path):
    with pytest.raises(DataError, match=f"{SHA256[:8]}, not 00000000"):
        fetch_weights(replace(web, sha256="00000000"), tmp_path)
    assert not list(Path(tmp_path).glob("model*"))


def test_an_address_that_is_not_there_is_named(hub, web, tmp_path):
    wrong = replace(web, url=f"{hub.address}/nowhere.pth")
    with pytest.raises(DataError, match=r"nowhere.pth answers 404") as refusal:
        fetch_weights(wrong, tmp_path)
    assert refusal.value.hint == "check the address"


def test_an_unreachable_address_is_named_at_once(tmp_path):
    entry = replace(ENTRY, hub="", url=f"http://127.0.0.1:{free_port()}/weights.pth")
    started = time.monotonic()
    with pytest.raises(DataError, match=r"could not reach 127\.0\.0\.1"):
        fetch_weights(entry, tmp_path)
    assert time.monotonic() - started < 5


def test_every_entry_says_where_it_is_and_what_may_be_done_with_it():
    for name, entry in PRETRAINED.items():
        with naming(name):
            assert bool(entry.hub) != bool(entry.url)
            assert entry.licence
            assert entry.traits.colours
            assert not entry.url or entry.url.startswith("https://")
            assert not entry.url or len(entry.sha256) == 8


@pytest.mark.parametrize("excess", [0, 1000])
def test_a_part_that_is_no_shorter_than_the_file_is_fetched_anew(hub, web, tmp_path, excess):
    (tmp_path / "model.safetensors.part").write_bytes(CONTENT + bytes(excess))
    assert fetch_weights(replace(web, sha256=SHA256), tmp_path).read_bytes() == CONTENT
    assert hub.ranges[-1] == ""


def test_a_checkpoint_of_a_run_is_used_from_the_hub_as_its_card_says(hub, run_cli, trained_run, digit):
    hub.files = {"me/digits/model.safetensors": (trained_run / "checkpoints" / "best.safetensors").read_bytes()}
    outcome = run_cli("predict", digit, "--model", "hf:me/digits", "--json")
    assert outcome.code == 0, outcome.err
    local = run_cli("predict", digit, "--model", trained_run, "--json")
    assert json.loads(outcome.out)["rows"] == json.loads(local.out)["rows"]
