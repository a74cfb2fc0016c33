"""Names that a terminal must not be given raw, and names that are not UTF-8: shown as escapes, kept as they are."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import TINY, Outcome
from vitcli.cli.streams import write_as_file
from vitcli.core.errors import visible
from vitcli.core.files import csv_text
from vitcli.data.sources.image_index import ImageIndex

RunCli = Callable[..., Outcome]
NOT_UTF8 = os.fsdecode(b"caf\xe9")
CLEAR, BELL, REVERSED = "red\x1b[2J", "bell\x07\x9b31m", "\u202egnp.exe"
CLASSES = (NOT_UTF8, CLEAR, BELL, REVERSED)
UNSEEN = set("\x1b\x07\x9b\u202e") | {NOT_UTF8[-1]}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain $x^2$ [bold] Größe 猫 👩\u200d🚀", "plain $x^2$ [bold] Größe 猫 👩\u200d🚀"),
        (CLEAR, r"red\x1b[2J"),
        (BELL, r"bell\x07\x9b31m"),
        (REVERSED, r"\u202egnp.exe"),
        (NOT_UTF8, r"caf\xe9"),
        ("two\nlines\tand\r", "two\nlines\\x09and\\x0d"),
    ],
)
def test_what_is_not_visible_becomes_an_escape(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory, run_cli: Callable[..., Outcome]) -> Path:
    """A run on classes and files of such names, in its folder."""
    folder = tmp_path_factory.mktemp("names")
    for at, name in enumerate(CLASSES):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(8):
            Image.new("L", (8, 8), 60 * at + number).save(folder / "photos" / name / f"{name}{number}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("VIT_DATA_DIR", str(folder / "data"))
        outcome = run_cli("train", "photos", *TINY, "--name", "run")
    assert outcome.code == 0, outcome.err
    assert_clean(outcome)
    return folder


def assert_clean(outcome: Outcome) -> None:
    assert not UNSEEN & set(outcome.out + outcome.err)


@pytest.mark.pictures
@pytest.mark.parametrize(
    "words",
    [
        ("eval",),
        ("predict", "photos"),
        ("predict", "photos/nothing\x1b[2J"),
        ("attention-map", "photos", "--limit", "3", "--html"),
        ("attention-map", "--split", "test", "--grid", "4"),
        ("preview", "photos"),
        ("train", "photos", "--dry-run"),
        ("runs",),
        ("train", "--resume", "run\x1b[2J"),
    ],
)
def test_every_command_shows_them_as_escapes(
    named: Path, run_cli: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(named)
    monkeypatch.setenv("VIT_DATA_DIR", str(named / "data"))
    outcome = run_cli(*words)
    assert outcome.code == int("\x1b" in words[-1]), outcome.err
    assert_clean(outcome)
    if words[0] in {"eval", "predict"} and outcome.code == 0:
        assert r"caf\xe9" in outcome.out
        assert r"\x1b[2J" in outcome.out


def test_files_and_json_keep_them_as_they_are(
    named: Path, run_cli: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(named)
    outcome = run_cli("predict", "photos", "--csv", "rows.csv", "--json")
    assert outcome.code == 0, outcome.err
    paths = {str(path.relative_to(named)) for path in (named / "photos").rglob("*.png")}
    assert {row["path"] for row in json.loads(outcome.out)["rows"]} == paths
    with Path("rows.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        assert {row["path"] for row in csv.DictReader(file)} == paths


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8"])
def test_an_encoding_that_lacks_a_letter_loses_nothing(named: Path, encoding: str) -> None:
    words = (sys.executable, "-m", "vitcli", "runs", "-o", named / "experiments")
    (named / "experiments" / "猫").mkdir(exist_ok=True)
    info = (named / "experiments" / "run" / "run.json").read_text()
    (named / "experiments" / "猫" / "run.json").write_text(info)
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(words, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert (r"\u732b" if encoding != "utf-8" else "猫") in done.stdout.decode(encoding)


def test_a_table_on_stdout_has_the_bytes_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    stream = io.TextIOWrapper(content, encoding="ascii", errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", stream)
    write_as_file(f"{NOT_UTF8},ä\n")
    stream.flush()
    assert content.getvalue() == b"caf\xe9,\xc3\xa4\n"


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=2), max_size=4))
def test_a_table_is_read_as_it_was_written(rows: list[list[str]]) -> None:
    """Python would not quote a carriage return, and take it for the end of a row."""
    rows = [["path", "label"], ["i3\r.png", "a\r\nb"], *rows]
    text = csv_text(rows)
    assert list(csv.reader(io.StringIO(text, newline=""))) == rows
    assert text.startswith('path,label\n"i3\r.png","a\r\nb"\n')


def test_names_on_stdin_end_at_a_newline(
    run_cli: RunCli, trained_run: Path, digit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "p\x0cq\u2028r.png"
    Path(name).write_bytes(digit.read_bytes())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{name}\r\n".encode())))
    outcome = run_cli("predict", "-", "--model", trained_run, "--csv", "-")
    assert outcome.code == 0, outcome.err
    assert len(list(csv.reader(io.StringIO(outcome.out, newline="")))) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [(("predict", "-"), "the list on stdin is empty"), (("runs", "delete"), "there is no terminal to ask in")],
)
def test_a_closed_stdin_is_an_empty_one(
    run_cli: RunCli, trained_run: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    outcome = run_cli(*words, *([trained_run] if "delete" in words else ["--model", trained_run]))
    sys.stdin.close()
    assert outcome.code == 1
    assert said in outcome.err


def test_a_file_with_a_backslash_is_found_in_a_table(tmp_path: Path, digit: Path) -> None:
    for name in ("a\\b.png", "c.png"):
        (tmp_path / name).write_bytes(digit.read_bytes())
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "d.png").write_bytes(digit.read_bytes())
    index = ImageIndex(tmp_path)
    assert [index.find(name) for name in ("a\\b.png", f"{tmp_path}/a\\b.png", "sub\\d.png")] == [
        [tmp_path / "a\\b.png"],
        [tmp_path / "a\\b.png"],
        [tmp_path / "sub" / "d.png"],
    ]
