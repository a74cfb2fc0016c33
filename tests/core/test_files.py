import csv
import errno
import json
import math
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitcli.core.errors import FileError
from vitcli.core.files import (
    check_output_file,
    check_output_folder,
    explained,
    replacing,
    write_csv,
    write_json,
    write_text,
)

WRITE_FOREVER = """
import itertools, sys
from pathlib import Path
from vitcli.core.files import write_json
for number in itertools.count():
    write_json(Path(sys.argv[1]), {"number": number, "rows": [number] * 20_000})
"""


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_half_of_it(path: Path, error: type[BaseException]) -> None:
    with replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise error


def test_the_new_content_replaces_the_old(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.txt"
    write_text(path, "old")
    write_text(path, "new, and ünïcode")
    assert path.read_text(encoding="utf-8") == "new, and ünïcode"
    assert names_in(path.parent) == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_content_and_no_temporary_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(error):
        write_half_of_it(path, error)
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["file.txt"]


def test_a_failure_where_nothing_was_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - our own
        write_half_of_it(tmp_path / "file.txt", ValueError)
    assert names_in(tmp_path) == []


def refuse(number: int, *, naming: Path | None = None) -> None:
    raise OSError(number, os.strerror(number), *([str(naming)] if naming else []))


@pytest.mark.parametrize("is_named", [False, True])
def test_what_the_disk_refuses_names_the_file_and_no_temporary_one(tmp_path: Path, *, is_named: bool) -> None:
    path = tmp_path / "runs" / "file.txt"
    with pytest.raises(OSError, match="No space left") as caught, replacing(path) as temporary:
        refuse(errno.ENOSPC, naming=temporary if is_named else None)
    assert caught.value.filename == str(path)
    told = explained(caught.value)
    assert told.message == f"the disk of {path.parent} is full: No space left on device"
    assert "--output-dir" in told.hint
    assert names_in(path.parent) == []


def test_an_error_about_another_file_stays_about_that_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, replacing(tmp_path / "file.txt"):
        refuse(errno.ENOENT, naming=tmp_path / "photo.jpg")
    assert caught.value.filename == str(tmp_path / "photo.jpg")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_place_that_cannot_be_written_comes_with_what_to_do(number: int) -> None:
    told = explained(OSError(number, os.strerror(number), "/there"))
    assert told.message == f"/there: {os.strerror(number)}"
    assert "permissions" in told.hint
    assert "--output-dir" in told.hint


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(NotADirectoryError) as caught:
        (tmp_path / "notes.txt" / "run").mkdir()
    assert explained(caught.value).message.startswith(f"{tmp_path / 'notes.txt'} is a file, not a folder")


def test_until_the_block_ends_the_old_content_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_the_temporary_file_has_the_same_suffix_and_is_hidden(tmp_path: Path) -> None:
    with replacing(tmp_path / "figure.png") as temporary:
        assert temporary.suffix == ".png"
        assert temporary.name.startswith(".")
        assert temporary.parent == tmp_path


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "file.txt", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file.txt").stat().st_mode) == 0o640


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("mode", [0o600, 0o444, 0o664])
def test_who_may_read_a_file_stays_when_it_is_replaced(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    path.chmod(mode)
    write_text(path, "new")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", mode)


@pytest.mark.parametrize("letter", ["a", "猫"])
def test_the_longest_name_that_a_file_can_have_is_written(tmp_path: Path, letter: str) -> None:
    path = tmp_path / f"{letter * (250 // len(letter.encode()))}.csv"
    write_text(path, "text")
    assert path.read_text() == "text"


def test_json_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    value = {"a": [1, 2.5, None, True], "b": {"ü": "x"}}
    write_json(tmp_path / "file.json", value)
    assert json.loads((tmp_path / "file.json").read_text()) == value


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_numbers_that_json_lacks_are_refused_and_the_old_file_stays(tmp_path: Path, number: float) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": number})
    assert json.loads(path.read_text()) == {"a": 1}
    assert names_in(tmp_path) == ["file.json"]


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX's")
@pytest.mark.parametrize("milliseconds", [3, 20, 60, 110])
def test_a_writer_that_is_killed_leaves_a_whole_file(tmp_path: Path, milliseconds: int) -> None:
    path = tmp_path / "file.json"
    with subprocess.Popen([sys.executable, "-c", WRITE_FOREVER, str(path)]) as writer:
        while not path.exists():
            assert writer.poll() is None
            time.sleep(0.002)
        time.sleep(milliseconds / 1000)
        writer.kill()
    content = json.loads(path.read_text())
    assert content["rows"] == [content["number"]] * 20_000


cells = st.one_of(
    st.floats(), st.integers(), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"))
)
rows_of_cells = st.lists(st.fixed_dictionaries({"epoch": st.integers()}, optional={"a,b": cells, 'c "d"': cells}))


@given(rows=rows_of_cells)
def test_a_table_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("tables") / "table.csv"
    write_csv(path, rows)
    columns = dict.fromkeys(name for row in rows for name in row)
    with path.open(newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == [{name: str(row.get(name, "")) for name in columns} for row in rows]


def test_what_is_nested_has_columns_of_its_own_and_what_a_row_lacks_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_csv(path, [{"epoch": 1}, {"epoch": 2, "rates": {"head": 0.5, "rest": 1}, "none": {}, "memory": 7}])
    assert path.read_text() == "epoch,rates.head,rates.rest,memory\n1,,,\n2,0.5,1,7\n"
    write_csv(path, [])
    assert path.read_text().strip() == ""


def test_a_folder_for_results_needs_no_more_than_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    own.mkdir()
    other.mkdir()
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) == own)
    for written in (own, own / "new" / "maps"):
        check_output_folder(written)
    check_output_file(own / "map.png")
    for refused in (other, other / "new", tmp_path / "new"):
        with pytest.raises(FileError, match="is no folder that may be written to"):
            check_output_folder(refused)
    with pytest.raises(FileError, match="cannot be written"):
        check_output_file(own.with_suffix(".png"))
