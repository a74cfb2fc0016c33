"""Kaggle's real client against a server on this machine: credentials, refusals, broken transfers, killed processes."""

import io
import json
import os
import random
import signal
import socket
import threading
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
from kagglesdk import kaggle_env

from tests.builders.processes import exit_code
from tests.servers.kaggle import Kaggle, serving_kaggle
from vitcli.core import fetch
from vitcli.core.errors import DataError, UsageError
from vitcli.core.events import Event, Note, TaskProgress, Warned
from vitcli.data.sources import kaggle_api
from vitcli.data.sources.kaggle import fetch_kaggle
from vitcli.data.sources.kaggle_reference import KaggleReference

SECRET = "KGAT_" + "0123456789abcdef" * 20  # longer than a file name may be
KEY = "fedcba9876543210"
FILES = {
    **{f"train/{kind}/{index:02d}.jpg": random.Random(index).randbytes(60_000) for kind in "ab" for index in range(25)},
    "train.csv": b"id,label\n1,a\n",
    "classes.json": b"{}",
}
UNWANTED = {
    "records/1.tfrec": b"1",
    "model.H5": b"2",
    "__MACOSX/train/._1.jpg": b"3",
    "train/.DS_Store": b"4",
    ".git/config": b"5",
}
DATA_SET, COMPETITION = KaggleReference.parse("kaggle:ada/birds"), KaggleReference.parse("kaggle:bird-cup")


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in {**UNWANTED, **FILES}.items():
            archive.writestr(name, content)
    return buffer.getvalue()


ARCHIVE = zipped()
CUT = len(ARCHIVE) * 3 // 10


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home without credentials, and an environment that says nothing of Kaggle."""
    for name in [name for name in os.environ if name.startswith("KAGGLE_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(fetch, "_WAIT", 0.001)
    (tmp_path / "home" / ".kaggle").mkdir(parents=True)
    return tmp_path / "home"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kaggle]:
    files = {"ada/birds": ARCHIVE, "bird-cup": ARCHIVE}
    with serving_kaggle(Kaggle(files=files, tokens={SECRET}, keys={"ada": KEY})) as running:
        monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, running.address)
        yield running


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("KAGGLE_API_TOKEN", SECRET)
    return SECRET


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "downloads" / "birds"


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def left_beside(folder: Path) -> set[str]:
    """What is there but the folder and its lock."""
    return {path.name for path in folder.parent.iterdir()} - {folder.name, f".{folder.name}.lock"}


def failure_of(reference: KaggleReference, folder: Path, **options: Any) -> DataError:
    """The error of a download, which shows no secret, not even in its causes, and leaves nothing that looks whole."""
    with pytest.raises(DataError) as failure:
        fetch_kaggle(reference, folder, **options)
    assert failure.value.hint
    error: BaseException | None = failure.value
    while error:
        shown = f"{error} {getattr(error, 'hint', '')}"
        assert not [secret for secret in (SECRET, KEY, "signature") if secret in shown]
        error = None if error.__suppress_context__ else error.__context__
    assert not folder.exists()
    return failure.value


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize(("reference", "asked"), [(DATA_SET, "ada/birds"), (COMPETITION, "bird-cup")])
def test_files_are_fetched_once_and_unpacked(
    server: Kaggle, folder: Path, reference: KaggleReference, asked: str
) -> None:
    events: list[Any] = []
    fetch_kaggle(reference, folder, emit=events.append)
    assert tree(folder) == FILES
    assert left_beside(folder) == set()
    assert server.served == len(ARCHIVE)
    tasks = [event for event in events if isinstance(event, TaskProgress)]
    assert tasks[-1] == TaskProgress(task="unpacking birds.zip (MB)", done=4, total=4)
    assert TaskProgress(task="fetching birds.zip (MB)", done=4, total=4) in tasks
    fetch_kaggle(reference, folder)
    assert server.asked == [asked]
    assert server.leaked == []


def write(path: Path, content: object, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    path.chmod(mode)
    return path


def give(kind: str, home: Path, patch: pytest.MonkeyPatch) -> str:
    """Put credentials into one of the places where they may be; returns how the error names it."""
    keys = {"username": "ada", "key": KEY}
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    login = {"refresh_token": "r", "access_token": SECRET, "access_token_expiration": later, "username": "ada"}
    variables: dict[str, dict[str, str]] = {
        "notebook": {
            "KAGGLE_API_V1_TOKEN": str(home / "v1"),
            "KAGGLE_KERNEL_RUN_TYPE": "Interactive",
            "KAGGLE_DATA_PROXY_URL": "http://localhost:9",
        },
        "token": {"KAGGLE_API_TOKEN": SECRET},
        "token in a file": {"KAGGLE_API_TOKEN": str(home / "secret")},
        "user name and key": {"KAGGLE_USERNAME": "ada", "KAGGLE_KEY": KEY},
        "KAGGLE_CONFIG_DIR": {"KAGGLE_CONFIG_DIR": str(home / "elsewhere")},
        "XDG_CONFIG_HOME": {"XDG_CONFIG_HOME": str(home / "config")},
        "half in a file": {"KAGGLE_USERNAME": "ada"},
    }
    files: dict[str, tuple[Path, object]] = {
        "notebook": (home / "v1", SECRET),
        "token in a file": (home / "secret", f"{SECRET}\n"),
        "access_token": (home / ".kaggle" / "access_token", f" {SECRET}\n"),
        "access_token.txt": (home / ".kaggle" / "access_token.txt", f"\ufeff{SECRET}"),
        "KAGGLE_CONFIG_DIR": (home / "elsewhere" / "kaggle.json", keys),
        "kaggle.json": (home / ".kaggle" / "kaggle.json", keys),
        "half in a file": (home / ".kaggle" / "kaggle.json", {"key": KEY}),
        "XDG_CONFIG_HOME": (home / "config" / "kaggle" / "kaggle.json", keys),
        ".config": (home / ".config" / "kaggle" / "kaggle.json", keys),
        "login": (home / ".kaggle" / "credentials.json", login),
        "expired login": (
            home / ".kaggle" / "credentials.json",
            login | {"access_token_expiration": "2020-01-01T00:00:00+00:00"},
        ),
        "working directory": (Path("kaggle.json"), keys),
    }
    for name, value in variables.get(kind, {}).items():
        patch.setenv(name, value)
    path = write(*files[kind]) if kind in files else None
    names = [name for name in variables.get(kind, {}) if "TOKEN" in name or kind == "user name and key"]
    return " and ".join(f"${name}" for name in names) or str(path)


KINDS = [
    *("notebook", "token", "token in a file", "access_token", "access_token.txt", "user name and key"),
    *("KAGGLE_CONFIG_DIR", "kaggle.json", "half in a file", "XDG_CONFIG_HOME", ".config"),
    *("login", "expired login", "working directory"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_credentials_are_found_and_named_when_they_are_refused(
    server: Kaggle, folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    server.logins = {"r": SECRET}
    source = give(kind, home, monkeypatch)
    fetch_kaggle(COMPETITION, folder)
    assert tree(folder) == FILES
    has_key = kind in {"user name and key", "working directory", ".config"} or source.endswith("kaggle.json")
    assert server.authorizations[0].startswith("Basic " if has_key else "Bearer ")
    server.tokens, server.keys = {"another"}, {"ada": "another"}
    error = failure_of(COMPETITION, folder.with_name("again"))
    assert error.message == f"Kaggle refuses the credentials of {source}"
    assert "https://www.kaggle.com/settings" in error.hint or "kaggle auth login" in error.hint


def test_what_comes_first_in_the_order_is_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vitcli.data.sources.kaggle_credentials import find_credentials

    order = ["working directory", "login", ".config", "kaggle.json", "user name and key", "access_token", "token"]
    for kind in order:
        source = give(kind, home, monkeypatch)
        found = find_credentials()
        assert found is not None
        assert found.source == source
        assert SECRET not in repr(found)
        assert KEY not in repr(found)


def test_without_credentials_a_competition_is_not_even_asked_for(
    server: Kaggle, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = failure_of(COMPETITION, folder)
    assert error.message == f"Kaggle asks for a token for {COMPETITION}, and this machine has none"
    monkeypatch.setenv("KAGGLE_USERNAME", "ada")
    assert failure_of(COMPETITION, folder).message.endswith("this machine has none: $KAGGLE_KEY is not set")
    make, save, accept = error.hint.splitlines()
    assert "https://www.kaggle.com/settings" in make
    assert "~/.kaggle/access_token" in save
    assert f"{COMPETITION.page}/rules" in accept
    assert server.asked == []


def test_without_credentials_a_data_set_may_be_open_to_all(server: Kaggle, folder: Path) -> None:
    assert "this machine has none" in failure_of(DATA_SET, folder).message
    server.open_to_all = True
    fetch_kaggle(DATA_SET, folder)
    assert tree(folder) == FILES
    assert server.authorizations == ["", ""]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("{", "is not JSON"),
        (f'{{"username": "ada", "key": "{KEY}"', "is not JSON"),
        ([KEY], "is not a JSON object"),
        ({"username": "ada"}, 'has no "key"'),
        ({"key": KEY}, 'has no "username"'),
        ({"username": "ada", "key": ""}, 'has no "key"'),
        ({"username": "ada", "key": 5}, 'has no "key"'),
        ({"username": "ada", "key": f"{KEY}\r\nX-Header: 1"}, "contains a space"),
        ({"username": "ada", "key": f"{KEY}é"}, "contains a space"),
    ],
)
def test_a_broken_key_file_is_named(server: Kaggle, folder: Path, home: Path, content: object, what: str) -> None:
    path = write(home / ".kaggle" / "kaggle.json", content)
    error = failure_of(DATA_SET, folder)
    assert str(path) in error.message
    assert what in error.message
    assert server.asked == []


@pytest.mark.parametrize("value", ["", "two words", "line\nbreak"])
def test_a_broken_token_file_is_named(server: Kaggle, folder: Path, home: Path, value: str) -> None:
    path = write(home / ".kaggle" / "access_token", value)
    assert f"the Kaggle token of {path}" in failure_of(DATA_SET, folder).message
    assert server.asked == []


@pytest.mark.parametrize(
    "content", [{}, "[]", {"refresh_token": "r", "access_token": "x", "access_token_expiration": "soon"}]
)
def test_a_broken_login_is_named(server: Kaggle, folder: Path, home: Path, content: object) -> None:
    path = write(home / ".kaggle" / "credentials.json", content)
    assert str(path) in failure_of(DATA_SET, folder).message
    assert server.asked == []


def test_a_login_that_is_no_longer_good_is_named(
    server: Kaggle, folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = give("expired login", home, monkeypatch)
    error = failure_of(DATA_SET, folder)
    assert error.message == f"Kaggle refuses the credentials of {path}"
    assert error.hint == "type `kaggle auth login` again"
    assert server.asked == []


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("mode", [0o604, 0o640])
def test_secrets_that_others_can_read_are_warned_about(
    folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    home = home / "my home"
    monkeypatch.setenv("HOME", str(home))
    path = write(home / ".kaggle" / "kaggle.json", {"username": "ada", "key": KEY}, mode)
    events: list[Any] = []
    fetch_kaggle(DATA_SET, folder, emit=events.append)
    warnings = [event for event in events if isinstance(event, Warned)]
    assert warnings == [Warned(text=f"{path} can be read by others; `chmod 600 '{path}'` changes that")]


@pytest.mark.usefixtures("token")
def test_rules_that_were_not_accepted_are_named_with_their_address(server: Kaggle, folder: Path) -> None:
    server.closed, server.says = {"bird-cup"}, f"You must accept\nthe rules, \x1b[1m{SECRET}"
    error = failure_of(COMPETITION, folder)
    assert "the rules of the competition 'bird-cup'" in error.message
    assert '("You must accept the rules, [1m***")' in error.message
    assert "https://www.kaggle.com/competitions/bird-cup/rules" in error.hint
    assert server.served == 0


@pytest.mark.usefixtures("token")
def test_a_data_set_that_is_not_open_is_named_with_its_address(server: Kaggle, folder: Path) -> None:
    server.closed = {"ada/birds"}
    error = failure_of(DATA_SET, folder)
    assert "data set 'ada/birds'" in error.message
    assert "private" in error.message
    assert "https://www.kaggle.com/datasets/ada/birds" in error.hint


@pytest.mark.usefixtures("token", "server")
@pytest.mark.parametrize(("text", "what"), [("bird-cap", "competition 'bird-cap'"), ("a/b", "data set 'a/b'")])
def test_an_unknown_name_is_named(folder: Path, text: str, what: str) -> None:
    assert failure_of(KaggleReference.parse(text), folder).message == f"Kaggle has no {what}"


@pytest.mark.usefixtures("token")
def test_a_busy_kaggle_is_asked_again(server: Kaggle, folder: Path) -> None:
    server.answers = [(429, {"Retry-After": "0"}), (503, {})]
    server.storage_answers = [(429, {"Retry-After": "0"})]
    fetch_kaggle(DATA_SET, folder)
    assert tree(folder) == FILES


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize("status", [403, 503])
def test_a_storage_that_refuses_the_first_byte_is_asked_again(server: Kaggle, folder: Path, status: int) -> None:
    server.probe_answers = [(status, {"Content-Type": "text/html"})]
    fetch_kaggle(COMPETITION, folder)
    assert tree(folder) == FILES


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize("is_page", [True, False])
def test_an_answer_that_is_no_file_is_refused(server: Kaggle, folder: Path, *, is_page: bool) -> None:
    """A page to sign in, say, or an answer without the redirection."""
    server.answers = [] if is_page else [(200, {})]
    server.probe_answers = [(200, {"Content-Type": "text/html; charset=utf-8"})]
    assert failure_of(DATA_SET, folder).message == "Kaggle sends no archive for kaggle:ada/birds"


@pytest.mark.usefixtures("token")
def test_a_refusal_within_a_good_answer_counts(server: Kaggle, folder: Path) -> None:
    server.answers = [(403, {})]
    server.disguised = True
    assert "private" in failure_of(DATA_SET, folder).message


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize("status", [400, 503])
def test_another_refusal_is_told_as_it_is(server: Kaggle, folder: Path, status: int) -> None:
    server.answers, server.says = [(status, {})] * 9, "no luck"
    error = failure_of(DATA_SET, folder)
    assert error.message == f'Kaggle answered {status} when asked for kaggle:ada/birds ("no luck")'


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize("who", ["kaggle", "storage"])
def test_silence_ends(server: Kaggle, folder: Path, monkeypatch: pytest.MonkeyPatch, who: Any) -> None:
    monkeypatch.setattr(kaggle_api, "_TIMEOUT", 0.3)
    monkeypatch.setattr(fetch, "_TIMEOUT", 0.3)
    server.silent = who
    error = failure_of(DATA_SET, folder)
    assert "(timed out)" in error.message
    assert "what has arrived is kept" in error.hint


@pytest.mark.usefixtures("token")
def test_a_network_that_is_down_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, address)
    error = failure_of(DATA_SET, folder)
    assert error.message == "could not reach Kaggle (the connection was refused) for kaggle:ada/birds"
    assert "check the connection" in error.hint


@pytest.mark.usefixtures("token")
def test_a_slow_kaggle_is_waited_for(server: Kaggle, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_TIMEOUT", 0.2)
    server.delay = 0.002  # twice as long in all
    fetch_kaggle(DATA_SET, folder)
    assert tree(folder) == FILES


@pytest.mark.usefixtures("token")
def test_a_transfer_that_is_cut_and_whose_address_expires_goes_on(server: Kaggle, folder: Path) -> None:
    server.cuts, server.expires_at_cut = [CUT], True
    fetch_kaggle(COMPETITION, folder)
    assert tree(folder) == FILES
    assert server.ranges == ["", f"bytes={CUT}-"]
    assert server.served == len(ARCHIVE)
    assert server.asked == ["bird-cup", "bird-cup"]


@pytest.mark.usefixtures("token")
def test_a_transfer_that_breaks_for_good_is_gone_on_with_by_the_next_call(server: Kaggle, folder: Path) -> None:
    server.cuts = [CUT, *[0] * 9]
    assert "broke off" in failure_of(DATA_SET, folder).message
    server.cuts = []
    fetch_kaggle(DATA_SET, folder)
    assert tree(folder) == FILES
    assert server.served == len(ARCHIVE)


@pytest.mark.usefixtures("token")
def test_a_data_set_that_changes_under_way_is_fetched_anew(server: Kaggle, folder: Path) -> None:
    server.files["ada/birds"] = ARCHIVE[::-1]
    server.cuts, server.after_cut = [CUT], {"ada/birds": ARCHIVE}
    fetch_kaggle(DATA_SET, folder)
    assert tree(folder) == FILES


@pytest.mark.usefixtures("token")
def test_a_wrong_length_is_found_out(server: Kaggle, folder: Path) -> None:
    server.excess = 1000
    assert f"and has {len(ARCHIVE):,}" in failure_of(DATA_SET, folder).message
    assert left_beside(folder) == set()


@pytest.mark.usefixtures("token")
def test_a_damaged_archive_is_not_kept(server: Kaggle, folder: Path) -> None:
    server.files["ada/birds"] = ARCHIVE[:CUT] + bytes(1000) + ARCHIVE[CUT + 1000 :]
    assert "is damaged" in failure_of(DATA_SET, folder).message
    assert left_beside(folder) == set()
    server.files["ada/birds"] = ARCHIVE
    fetch_kaggle(DATA_SET, folder)
    assert tree(folder) == FILES


@pytest.mark.usefixtures("token")
def test_a_folder_that_cannot_be_written_is_named(server: Kaggle, tmp_path: Path) -> None:
    (tmp_path / "downloads").write_text("")
    error = failure_of(DATA_SET, tmp_path / "downloads" / "kaggle" / "birds")
    assert "cannot be written" in error.message
    assert "--data-dir" in error.hint
    assert server.asked == []


@pytest.mark.usefixtures("token")
def test_a_folder_that_may_not_be_written_is_named(server: Kaggle, folder: Path) -> None:
    folder.parent.mkdir(mode=0o500)
    if os.access(folder.parent, os.W_OK):
        pytest.skip("this user may write anywhere")
    assert f"{folder.parent} cannot be written: Permission denied" in failure_of(DATA_SET, folder).message
    assert server.asked == []


@pytest.mark.usefixtures("token")
def test_offline_means_no_request(server: Kaggle, folder: Path) -> None:
    error = failure_of(DATA_SET, folder, offline=True)
    assert "kaggle:ada/birds is not on this machine" in error.message
    assert "--offline" in error.hint
    assert server.asked == []
    fetch_kaggle(DATA_SET, folder)
    fetch_kaggle(DATA_SET, folder, offline=True)


@pytest.mark.usefixtures("token")
def test_of_two_processes_one_fetches_and_the_other_says_that_it_waits(server: Kaggle, folder: Path) -> None:
    """Threads with locks of their own are to the lock what processes are."""
    events: list[Any] = []
    begun, told = threading.Event(), threading.Event()

    def hold(_: Event) -> None:
        begun.set()
        told.wait(60)

    def note(event: Event) -> None:
        events.append(event)
        told.set()

    first = threading.Thread(target=fetch_kaggle, args=(DATA_SET, folder), kwargs={"emit": hold})
    first.start()
    assert begun.wait(60)
    fetch_kaggle(DATA_SET, folder, emit=note)
    first.join()
    assert events == [Note(text="another process is fetching kaggle:ada/birds; waiting for it")]
    assert tree(folder) == FILES
    assert server.asked == ["ada/birds"]


def fetch_and_die(folder: Path, task: str, done: int, environment: dict[str, str]) -> None:
    """Fetch in a process of its own, which is killed when so much of a task is done."""

    def die(event: Event) -> None:
        if isinstance(event, TaskProgress) and event.task.startswith(task) and event.done >= done:
            os.kill(os.getpid(), signal.SIGKILL)

    os.environ.update(environment)
    fetch_kaggle(KaggleReference.parse("kaggle:bird-cup"), folder, emit=die)


@pytest.mark.usefixtures("token")
def test_a_process_that_is_killed_again_and_again_gets_there(
    processes: ForkServerContext, server: Kaggle, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice in the download and twice in the extraction; Kaggle is behind a proxy here."""
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    monkeypatch.setenv("http_proxy", server.address)

    def run(task: str, done: int) -> int | None:
        return exit_code(processes.Process(target=fetch_and_die, args=(folder, task, done, dict(os.environ))))

    server.delay = 0.002
    for task, done in (("fetching", 1), ("fetching", 3), ("unpacking", 1), ("unpacking", 3)):
        assert run(task, done) == -9
        assert not folder.exists()
    assert folder.with_name(f".{folder.name}.unpacking").exists()
    assert run("never", 0) == 0
    assert tree(folder) == FILES
    assert left_beside(folder) == set()
    starts = [int(asked.removeprefix("bytes=").removesuffix("-") or 0) for asked in server.ranges]
    assert len(starts) == 3
    assert starts == sorted(set(starts))


@pytest.mark.usefixtures("token")
def test_an_archive_that_a_killed_process_left_is_removed(folder: Path) -> None:
    write(folder / "1.jpg", "x")
    write(folder.with_name("birds.zip"), "x")
    fetch_kaggle(DATA_SET, folder)
    assert left_beside(folder) == set()


@pytest.mark.parametrize("text", ["kaggle:ada/birds", "ada/birds", "kaggle:bird-cup", "A-1/b_2"])
def test_references_are_read(text: str) -> None:
    assert str(KaggleReference.parse(text)) == "kaggle:" + text.removeprefix("kaggle:")


@pytest.mark.parametrize(
    "text", ["", "kaggle:", "a/b/c", "../x", "a/..", "a b", "-a", "a\n", "é", "a/", "/a", "a\\b", "a" * 101, "hf:a/b"]
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="kaggle:OWNER/NAME is a data set") as refusal:
        KaggleReference.parse(text)
    assert repr(text) in refusal.value.message


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("https://www.kaggle.com/datasets/ada/birds?select=x", "kaggle:ada/birds"),
        ("https://www.kaggle.com/datasets/ada/birds#files", "kaggle:ada/birds"),
        ("kaggle.com/competitions/bird-cup/data", "kaggle:bird-cup"),
        ("https://kaggle.com/c/bird-cup/", "kaggle:bird-cup"),
    ],
)
def test_an_address_of_the_website_is_understood(text: str, meant: str) -> None:
    assert str(KaggleReference.parse(text)) == meant


@pytest.mark.parametrize(
    ("text", "meant"), [("kaggle:datasets/ada/birds", "kaggle:ada/birds"), ("kaggle:c/bird-cup", "kaggle:bird-cup")]
)
def test_a_part_of_an_address_is_translated(text: str, meant: str) -> None:
    with pytest.raises(UsageError) as refusal:
        KaggleReference.parse(text)
    assert refusal.value.hint == f"did you mean {meant}?"
