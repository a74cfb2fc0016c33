"""Transfers that are cut, stall, change under way or are refused: from a real server, byte by byte."""

import base64
import contextlib
import hashlib
import json
import os
import random
import shutil
import socket
import socketserver
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.servers.kaggle import Kaggle, serving_kaggle
from vitcli.core import fetch
from vitcli.core.addresses import unreachable, without_secrets
from vitcli.core.errors import DataError, UsageError
from vitcli.core.events import Note, TaskProgress
from vitcli.core.fetch import fetch_file, seconds_to_wait

CONTENT = random.Random(0).randbytes(3_000_000)
OTHER = random.Random(1).randbytes(3_000_000)
CUT = 900_000


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_WAIT", 0.001)
    monkeypatch.setattr(fetch, "_TIMEOUT", 0.4)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[Kaggle]:
    with serving_kaggle(Kaggle(files={"ada/birds": CONTENT})) as running:
        yield running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "files" / "birds.zip"


def address(server: Kaggle, signature: int = 1) -> str:
    return f"{server.address}/storage/ada/birds/archive.zip?signature={signature}"


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_a_file_is_fetched_and_nothing_stays_beside_it(server: Kaggle, path: Path) -> None:
    events: list[Any] = []
    fetch_file(address(server), path, emit=events.append)
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["birds.zip"]
    assert events[0] == TaskProgress(task="fetching birds.zip (MB)", done=0, total=3)
    assert events[-1] == TaskProgress(task="fetching birds.zip (MB)", done=3, total=3)


@pytest.mark.parametrize("stall", [False, True])
def test_a_cut_transfer_goes_on_and_no_byte_is_sent_twice(server: Kaggle, path: Path, *, stall: bool) -> None:
    server.cuts, server.stall = [CUT], stall
    fetch_file(address(server), path)
    assert path.read_bytes() == CONTENT
    assert server.ranges == ["", f"bytes={CUT}-"]
    assert server.served == len(CONTENT)


def test_a_transfer_is_gone_on_with_by_the_next_call(server: Kaggle, path: Path) -> None:
    server.cuts = [CUT, *[0] * 4]
    with pytest.raises(DataError, match="broke off: 900,000 of 3,000,000 bytes") as failure:
        fetch_file(address(server), path)
    assert "what has arrived is kept" in failure.value.hint
    assert not path.exists()
    fetch_file(address(server), path)
    assert path.read_bytes() == CONTENT
    assert server.served == len(CONTENT)


def test_a_long_transfer_may_be_cut_any_number_of_times(
    server: Kaggle, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_PROGRESS", 100_000)
    server.cuts = [100_000] * 25
    fetch_file(address(server), path)
    assert path.read_bytes() == CONTENT
    assert server.served == len(CONTENT)
    assert len(server.ranges) == 26


@pytest.mark.parametrize("knows_if_range", [True, False])
@pytest.mark.parametrize("across_calls", [True, False])
def test_a_file_that_changed_under_way_starts_again(
    server: Kaggle, path: Path, *, knows_if_range: bool, across_calls: bool
) -> None:
    server.knows_if_range, server.after_cut = knows_if_range, {"ada/birds": OTHER}
    server.cuts = [CUT] if not across_calls else [CUT, *[0] * 4]
    if across_calls:
        server.after_cut = {}
        with pytest.raises(DataError):
            fetch_file(address(server), path)
        server.files["ada/birds"] = OTHER
    asked = len(server.ranges)
    fetch_file(address(server), path)
    assert path.read_bytes() == OTHER
    requests = 1 if knows_if_range else 2  # to continue; it is answered with the whole file, or has to be asked for
    assert len(server.ranges) == asked + requests + (not across_calls)


@pytest.mark.parametrize("across_calls", [True, False])
def test_what_cannot_be_told_from_another_version_starts_again(
    server: Kaggle, path: Path, *, across_calls: bool
) -> None:
    server.has_etag, server.cuts = False, [CUT] * (5 if across_calls else 1)
    server.after_cut = {"ada/birds": OTHER}
    if across_calls:
        server.after_cut = {}
        with pytest.raises(DataError):
            fetch_file(address(server), path)
        server.files["ada/birds"] = OTHER
    fetch_file(address(server), path)
    assert path.read_bytes() == OTHER
    assert {*server.ranges} == {""}


def test_a_server_without_versions_that_cuts_every_time_is_given_up(
    server: Kaggle, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_PROGRESS", 1000)
    server.has_etag, server.cuts = False, [CUT] * 50
    with pytest.raises(DataError, match="broke off") as failure:
        fetch_file(address(server), path)
    assert "is kept" not in failure.value.hint
    assert len(server.ranges) == 5


def test_a_known_hash_lets_a_transfer_without_versions_go_on(server: Kaggle, path: Path) -> None:
    server.has_etag, server.cuts = False, [CUT]
    fetch_file(address(server), path, sha256=hashlib.sha256(CONTENT).hexdigest())
    assert server.served == len(CONTENT)


def test_another_length_gives_a_change_away_where_there_is_no_etag(server: Kaggle, path: Path) -> None:
    server.has_etag, server.cuts, server.after_cut = False, [CUT], {"ada/birds": OTHER[:-1]}
    fetch_file(address(server), path)
    assert path.read_bytes() == OTHER[:-1]


def test_a_shorter_file_than_what_arrived_starts_again(server: Kaggle, path: Path) -> None:
    server.knows_if_range, server.cuts, server.after_cut = False, [CUT], {"ada/birds": OTHER[:1000]}
    fetch_file(address(server), path)
    assert path.read_bytes() == OTHER[:1000]


def test_a_file_that_was_whole_when_the_process_died_is_not_fetched_again(path: Path) -> None:
    path.parent.mkdir()
    path.with_name("birds.zip.part").write_bytes(CONTENT)
    path.with_name("birds.zip.part.json").write_text(json.dumps({"validator": '"x"', "total": len(CONTENT)}))
    fetch_file("http://127.0.0.1:9/birds.zip", path)
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["birds.zip"]


def test_a_broken_record_counts_as_none(server: Kaggle, path: Path) -> None:
    path.parent.mkdir()
    path.with_name("birds.zip.part").write_bytes(CONTENT[:CUT])
    path.with_name("birds.zip.part.json").write_text('{"validator": ')
    fetch_file(address(server), path)
    assert path.read_bytes() == CONTENT


def test_a_server_that_announces_more_than_it_has_is_found_out(server: Kaggle, path: Path) -> None:
    server.excess = 100
    with pytest.raises(DataError, match="announces 3,000,100 bytes and has 3,000,000"):
        fetch_file(address(server), path)
    assert names(path.parent) == []
    assert server.served == len(CONTENT)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(server: Kaggle, path: Path, status: int) -> None:
    server.storage_answers = [(status, {"Retry-After": "0"}), (status, {})]
    fetch_file(address(server), path)
    assert path.read_bytes() == CONTENT


def test_a_server_that_stays_busy_is_named(server: Kaggle, path: Path) -> None:
    server.storage_answers = [(503, {})] * 9
    with pytest.raises(DataError, match=r"archive.zip answers 503") as failure:
        fetch_file(address(server), path)
    assert failure.value.hint == "try again later"
    assert len(server.storage_answers) == 4


def test_a_long_wait_is_said(server: Kaggle, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    server.storage_answers = [(429, {"Retry-After": "7"})]
    events: list[Any] = []
    fetch_file(address(server), path, emit=events.append)
    assert 7.0 in waited
    assert Note(text="the transfer of birds.zip was interrupted; it continues in 7 s") in events


def test_waits_grow_and_what_a_server_asks_for_has_a_bound() -> None:
    assert [seconds_to_wait(failures) / seconds_to_wait(1) for failures in (1, 2, 3)] == [1, 2, 4]
    assert seconds_to_wait(30) == 60
    assert seconds_to_wait(1, "12") == 12
    assert seconds_to_wait(1, "86400") == 60
    assert 8 < seconds_to_wait(1, format_datetime(datetime.now(UTC) + timedelta(seconds=10), usegmt=True)) <= 10
    assert seconds_to_wait(1, "Thu, 01 Jan 2015 00:00:00 GMT") == 0
    assert seconds_to_wait(1, "soon") == seconds_to_wait(1)


def test_an_address_that_expires_under_way_is_renewed(server: Kaggle, path: Path) -> None:
    server.issued, server.cuts, server.expires_at_cut = 1, [CUT], True
    asked = []

    def renew() -> str:
        asked.append(1)
        return address(server, signature=2)

    fetch_file(address(server), path, renew=renew)
    assert path.read_bytes() == CONTENT
    assert len(asked) == 1
    assert server.served == len(CONTENT)


@pytest.mark.parametrize("renews", [True, False])
def test_an_address_that_stays_expired_is_named_without_its_signature(
    server: Kaggle, path: Path, *, renews: bool
) -> None:
    server.expired = 9
    asked = []

    def renew() -> str:
        asked.append(1)
        return address(server, signature=2)

    with pytest.raises(DataError, match=r"archive.zip answers 403") as failure:
        fetch_file(address(server), path, renew=renew if renews else None)
    assert "signature" not in failure.value.message
    assert len(asked) == renews


def test_a_silent_server_is_given_up_at_once(server: Kaggle, path: Path) -> None:
    server.silent = "storage"
    with pytest.raises(DataError, match=r"could not reach 127\.0\.0\.1 \(timed out\) for http"):
        fetch_file(address(server), path)


def test_a_slow_server_is_waited_for(server: Kaggle, path: Path) -> None:
    server.delay = 0.002
    fetch_file(address(server), path)
    assert path.read_bytes() == CONTENT


def test_what_does_not_fit_on_the_disk_is_not_begun(
    server: Kaggle, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", free_bytes(5_000_000))
    with pytest.raises(DataError, match=r"needs 0.006 GB in .*files, where 0.005 GB are free") as failure:
        fetch_file(address(server), path, room=2.0)
    assert "--data-dir" in failure.value.hint
    assert names(path.parent) == []
    fetch_file(address(server), path, room=1.0)


def test_what_has_arrived_needs_no_room(server: Kaggle, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.cuts = [CUT, *[0] * 4]
    with pytest.raises(DataError):
        fetch_file(address(server), path)
    monkeypatch.setattr(shutil, "disk_usage", free_bytes(len(CONTENT) - CUT))
    fetch_file(address(server), path)
    assert path.read_bytes() == CONTENT


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_a_disk_that_is_full_is_named(server: Kaggle, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(fetch.PartialFile):
        def begin(self, version: Any) -> None:
            super().begin(version)
            self.path.symlink_to("/dev/full")

    monkeypatch.setattr(fetch, "PartialFile", Full)
    with pytest.raises(DataError, match="is full: No space left") as failure:
        fetch_file(address(server), path)
    assert "--data-dir" in failure.value.hint


def test_a_folder_that_cannot_be_made_is_named(server: Kaggle, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(DataError, match="taken cannot be written"):
        fetch_file(address(server), tmp_path / "taken" / "birds.zip")


def test_a_folder_that_may_not_be_written_is_named(server: Kaggle, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("this user may write anywhere")
        with pytest.raises(DataError, match="cannot be written: Permission denied"):
            fetch_file(address(server), tmp_path / "birds.zip")
    finally:
        tmp_path.chmod(0o700)


def test_no_connection_is_said_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_WAIT", 9.0)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(DataError, match=r"^could not reach 127\.0\.0\.1 \(the connection was refused\) for http"):
        fetch_file(f"http://127.0.0.1:{port}/birds.zip", path)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (socket.gaierror(-2, "Name or service not known"), "(the name is not known, or there is no network)"),
        (TimeoutError("The read operation timed out"), "(timed out)"),
        (ConnectionResetError(104, "Connection reset by peer"), "(the connection broke off)"),
        (OSError(101, "Network is unreachable"), "(Network is unreachable)"),
    ],
)
def test_the_cause_in_errors_of_libraries_is_said_in_plain_words(cause: OSError, said: str) -> None:
    cause.__context__ = None if type(cause) is OSError else RuntimeError("an earlier failure")
    wrapped = RuntimeError("HTTPSConnectionPool(host='example.org', port=443): Max retries exceeded")
    wrapped.__cause__ = urllib.error.URLError(cause)
    assert unreachable("https://example.org/a.zip", wrapped) == f"could not reach example.org {said}"


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def free_bytes(count: int) -> Callable[[object], Usage]:
    return lambda _: Usage(10**12, 10**12 - count, count)


@contextlib.contextmanager
def answering(*parts: bytes, seconds: float = 0.0, endless: bool = False) -> Iterator[str]:
    """A server that answers every request with these bytes, slowly or for ever; yields the address of a file on it."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            with contextlib.suppress(OSError):
                for part in parts:
                    self.request.sendall(part)
                    time.sleep(seconds)
                while endless:
                    self.request.sendall(parts[-1])

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}/weights.pth"
        running.shutdown()


def test_a_password_goes_to_its_own_host_only(path: Path) -> None:
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization", ""))
            if len(seen) == 1:
                self.send_response(302)
                self.send_header("Location", f"http://localhost:{self.server.server_address[1]}/elsewhere")
                self.end_headers()
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"content")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        fetch_file(f"http://ada:p%40ä@127.0.0.1:{running.server_address[1]}/file", path)
        running.shutdown()
    assert path.read_bytes() == b"content"
    assert seen == [f"Basic {base64.b64encode('ada:p@ä'.encode()).decode()}", ""]


@pytest.mark.parametrize("length", ["abc", "-5", "9" * 5000, "5, 5", "\u0663"])
def test_an_odd_length_counts_as_none(path: Path, length: str) -> None:
    head = f"HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n".encode()
    with answering(head + b"PKbytes") as url, contextlib.suppress(DataError):
        fetch_file(url, path)
    assert not path.exists() or path.read_bytes() == b"PKbytes"


@pytest.mark.parametrize("text", ["20GB", "nan", "inf", "-1", "0"])
def test_a_limit_that_is_no_number_of_gigabytes_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("VIT_MAX_DOWNLOAD_GB", text)
    with (
        answering(b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n1") as url,
        pytest.raises(UsageError, match=f"VIT_MAX_DOWNLOAD_GB={text} is not a number above 0"),
    ):
        fetch_file(url, path)


def test_an_endless_file_ends_at_a_limit_that_can_be_lifted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIT_MAX_DOWNLOAD_GB", "0.002")
    with (
        answering(b"HTTP/1.0 200 OK\r\n\r\n", bytes(100_000), endless=True) as url,
        pytest.raises(DataError, match=r"more than 0\.002 GB") as caught,
    ):
        fetch_file(url, path)
    assert caught.value.hint == "VIT_MAX_DOWNLOAD_GB=0.004 allows more"
    assert path.with_name(f"{path.name}.part").stat().st_size < 3_000_000


def test_an_announced_size_above_the_limit_is_refused_at_once(path: Path) -> None:
    with (
        answering(b"HTTP/1.0 200 OK\r\nContent-Length: 999999999999\r\n\r\n") as url,
        pytest.raises(DataError, match="more than 20 GB"),
    ):
        fetch_file(url, path)


def test_a_crawling_server_is_given_up_and_its_speed_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_SLOW_SECONDS", 0.1)
    monkeypatch.setattr(fetch, "_ATTEMPTS", 1)
    head = b"HTTP/1.0 200 OK\r\nContent-Length: 50\r\n\r\n"
    with (
        answering(head, *[b"x"] * 50, seconds=0.02) as url,
        pytest.raises(DataError, match=r"sends only \d+ bytes a second"),
    ):
        fetch_file(url, path)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://h.org/m.pth?sig=secret&x=1", "https://h.org/m.pth"),
        ("http://ada:pw@h.org:80/a/m.pth", "http://h.org:80/a/m.pth"),
        ("see https://ada@h.org/m?k=1 and https://b.org/n#part", "see https://h.org/m and https://b.org/n#part"),
        ("no address? none@all", "no address? none@all"),
    ],
)
def test_addresses_are_shown_without_secrets(text: str, shown: str) -> None:
    assert without_secrets({"a": [text]}) == {"a": [shown]}
