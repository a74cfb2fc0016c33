"""Archives of strangers: the harmless are unpacked to the byte, the others refused with nothing left behind."""

import io
import os
import random
import resource
import shutil
import stat
import struct
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.conftest import naming
from vitcli.core.errors import DataError
from vitcli.core.events import TaskProgress, Warned
from vitcli.core.unpack import ArchiveError, unpack

FILES = {"train/cat/1.jpg": b"cat" * 1000, "train/dog/2.jpg": bytes(range(256)) * 100, "labels.csv": b"id,label\n"}
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


@pytest.fixture(autouse=True)
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Spares the disk of the machine; has an item for every time that it would have been written to."""
    calls: list[int] = []
    monkeypatch.setattr(os, "sync", lambda: calls.append(1))
    return calls


def zip_file(path: Path, files: Mapping[str, bytes], *, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    """An archive with exactly these names, which zipfile itself would mend."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.filename = name
            info.compress_type = compression
            archive.writestr(info, content)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(archive: Path, message: str, **options: Any) -> ArchiveError:
    """The error of an archive that must not be unpacked; nothing but the archive is there afterwards."""
    before = sorted(archive.parent.rglob("*"))
    with pytest.raises(ArchiveError, match=message) as refusal:
        unpack(archive, archive.parent / "birds", **options)
    assert sorted(archive.parent.rglob("*")) == before
    assert refusal.value.hint
    return refusal.value


def test_an_archive_is_unpacked_whole(tmp_path: Path, synced: list[int]) -> None:
    for count, compression in enumerate(COMPRESSIONS, start=1):
        folder = tmp_path / str(compression)
        folder.mkdir()
        with naming(compression):
            archive = zip_file(folder / "birds.zip", FILES, compression=compression)
            unpack(archive, folder / "birds")
            assert tree(folder / "birds") == FILES
            assert sorted(path.name for path in folder.iterdir()) == ["birds", "birds.zip"]
            assert synced == [1] * count


def test_progress_is_told_in_megabytes(tmp_path: Path) -> None:
    archive = zip_file(tmp_path / "birds.zip", {f"{index}.jpg": bytes(900_000) for index in range(5)})
    events: list[Any] = []
    unpack(archive, tmp_path / "birds", emit=events.append)
    assert events == [TaskProgress(task="unpacking birds.zip (MB)", done=done, total=5) for done in range(6)]


def test_folders_are_made_for_files_only(tmp_path: Path) -> None:
    archive = zip_file(tmp_path / "birds.zip", {"empty/": b"", "./a//b/./1.jpg": b"x"})
    unpack(archive, tmp_path / "birds")
    assert tree(tmp_path / "birds") == {"a/b/1.jpg": b"x"}
    assert not (tmp_path / "birds" / "empty").exists()


def test_only_what_is_wanted_is_unpacked(tmp_path: Path) -> None:
    archive = zip_file(tmp_path / "birds.zip", {**FILES, "records/1.tfrec": b"x", "a/model.h5": b"y"})
    unpack(archive, tmp_path / "birds", keep=lambda name: not name.endswith((".tfrec", ".h5")))
    assert tree(tmp_path / "birds") == FILES


def test_an_archive_without_anything_wanted_is_refused(tmp_path: Path) -> None:
    refused(zip_file(tmp_path / "birds.zip", FILES), "none of the expected files", keep=lambda _: False)
    refused(zip_file(tmp_path / "birds.zip", {}), "none of the expected files")


NAME = st.text(st.characters(blacklist_characters="/\\\0", blacklist_categories=["Cs"]), min_size=1, max_size=20)
PATH = st.lists(NAME.filter(lambda name: name not in {".", ".."}), min_size=1, max_size=3).map("/".join)


@given(PATH)
@example("with blanks/ in  names .jpg")
@example("-rf/--help.jpg")
@example("Ünïcödé/猫/🐈.jpg")
@example("new\nline/tab\t.jpg")
@example("~/$HOME/%TEMP%.jpg")
@example("CON/nul.jpg")
@example("...")
def test_odd_names_stay_as_they_are(name: str) -> None:
    if len(name.encode()) > 200 or name[1:2] == ":":
        return
    with tempfile.TemporaryDirectory() as place:
        archive = zip_file(Path(place) / "birds.zip", {name: b"content"})
        unpack(archive, Path(place) / "birds")
        assert tree(Path(place) / "birds") == {name: b"content"}


@given(st.lists(st.sampled_from(["..", "a", "b.jpg", "...", " .."]), min_size=1, max_size=5).map("/".join))
@example("../birds/../../x")
def test_whatever_the_name_nothing_is_written_outside(name: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        inner = Path(place) / "inner"
        inner.mkdir()
        archive = zip_file(inner / "birds.zip", {"ok.jpg": b"1", name: b"2"})
        if ".." in name.split("/"):
            refused(archive, "lead out of its folder")
        else:
            unpack(archive, inner / "birds")
            assert tree(inner / "birds") == {"ok.jpg": b"1", name: b"2"}
        assert [path.name for path in Path(place).iterdir()] == ["inner"]


def test_names_that_could_lead_out_are_refused(tmp_path: Path) -> None:
    leading_out = ["../x.jpg", "a/../../x.jpg", "a/..", "/etc/x.jpg", "//host/x.jpg", "C:/x.jpg", "c:x.jpg"]
    for name in (*leading_out, "a\\..\\..\\x.jpg", "\\x", "."):
        archive = zip_file(tmp_path / "birds.zip", {"ok.jpg": b"1", name: b"2"})
        for wanted in ({"ok.jpg", name}, {"ok.jpg"}):
            with naming(name, wanted):
                error = refused(archive, "lead out of its folder", keep=wanted.__contains__)
                assert repr(name) in error.message


def test_a_name_that_hides_its_end_is_refused(tmp_path: Path) -> None:
    archive = zip_file(tmp_path / "birds.zip", {"ok.jpgXexe": b"1"})
    archive.write_bytes(archive.read_bytes().replace(b"ok.jpgX", b"ok.jpg\0"))
    refused(archive, "lead out of its folder")


def test_links_and_devices_are_passed_over_and_that_is_said(tmp_path: Path) -> None:
    for kind in [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO]:
        archive = tmp_path / str(kind) / "birds.zip"
        archive.parent.mkdir()
        with naming(kind):
            with zipfile.ZipFile(archive, "w") as opened:
                link = zipfile.ZipInfo("passwords.jpg")
                link.create_system, link.external_attr = 3, (kind | 0o777) << 16
                opened.writestr(link, "/etc/passwd")
                opened.writestr("1.jpg", b"1")
            events: list[Any] = []
            unpack(archive, archive.parent / "birds", emit=events.append)
            assert tree(archive.parent / "birds") == {"1.jpg": b"1"}
            assert [event for event in events if isinstance(event, Warned)] == [
                Warned(text=f"links and devices in {archive} are skipped: 1, the first is 'passwords.jpg'")
            ]


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    """A link, and then a member below it: the folder is made again, and what the link led to stays as it is."""
    outside = tmp_path / "outside"
    outside.mkdir()
    archive = tmp_path / "birds.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        link = zipfile.ZipInfo("door")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        opened.writestr(link, str(outside))
        opened.writestr("door/1.jpg", b"1")
    unpack(archive, tmp_path / "birds")
    assert tree(tmp_path / "birds") == {"door/1.jpg": b"1"}
    assert list(outside.iterdir()) == []


def test_an_encrypted_archive_is_refused(tmp_path: Path) -> None:
    archive = zip_file(tmp_path / "birds.zip", FILES)
    content = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    archive.write_bytes(content)
    refused(archive, "is encrypted: 'train/cat/1.jpg'")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    for second in ["a.jpg", "./a.jpg"]:
        with naming(second):
            with zipfile.ZipFile(tmp_path / "birds.zip", "w") as opened:
                opened.writestr("a.jpg", b"1")
                opened.writestr(second, b"2")
            refused(tmp_path / "birds.zip", r"has 'a.jpg' twice")


def test_a_file_that_is_a_folder_as_well_is_refused(tmp_path: Path) -> None:
    refused(zip_file(tmp_path / "birds.zip", {"a": b"1", "a/b.jpg": b"2"}), "as a file and as a folder")


def test_the_disk_decides_on_names_that_differ_in_case(tmp_path: Path) -> None:
    archive = zip_file(tmp_path / "birds.zip", {"a.JPG": b"1", "a.jpg": b"2"})
    (tmp_path / "probe").write_text("")
    if (tmp_path / "PROBE").exists():
        refused(archive, "equal on this disk")
    else:
        unpack(archive, tmp_path / "birds")
        assert tree(tmp_path / "birds") == {"a.JPG": b"1", "a.jpg": b"2"}


def test_a_bomb_is_refused_by_what_it_declares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zip_file(tmp_path / "birds.zip", {f"{index}.png": bytes(3_000_000) for index in range(4)})
    unpack(archive, tmp_path / "small enough to do no harm")
    monkeypatch.setattr("vitcli.core.unpack._HARMLESS", 10**6)
    refused(archive, r"has 0\.\d+ MB and would unpack to 12 MB")


def test_a_bomb_of_files_that_share_their_bytes_is_refused(tmp_path: Path) -> None:
    """The directory of the archive has the same member a thousand times, under different names."""
    refused(overlapping(tmp_path / "birds.zip", copies=1000), "would unpack to")


def overlapping(path: Path, *, copies: int) -> Path:
    zip_file(path, {"0000.png": bytes(1_000_000)})
    content = path.read_bytes()
    start = content.index(b"PK\x01\x02")
    entry, end = content[start:-22], content[-22:]
    directory = b"".join(entry.replace(b"0000", b"%04d" % index) for index in range(copies))
    end = end[:8] + struct.pack("<HHII", copies, copies, len(directory), start) + b"\0\0"
    path.write_bytes(content[:start] + directory + end)
    return path


def test_a_member_that_is_not_as_long_as_it_declares_is_refused(tmp_path: Path) -> None:
    """A bomb that lies about its size, or a member that ends early."""
    for declared in [10, 10**6]:
        with naming(declared):
            archive = zip_file(tmp_path / "birds.zip", {"1.png": bytes(500_000)})
            content = bytearray(archive.read_bytes())
            struct.pack_into("<I", content, content.index(b"PK\x01\x02") + 24, declared)
            archive.write_bytes(content)
            refused(archive, "damaged|as declared")


def test_what_does_not_fit_on_the_disk_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zip_file(tmp_path / "birds.zip", FILES)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(
        DataError, match=r"birds.zip, unpacked, needs 2.86e-05 GB in .*, where 1e-07 GB are free"
    ) as refusal:
        unpack(archive, tmp_path / "birds")
    assert not isinstance(refusal.value, ArchiveError)
    assert "--data-dir" in refusal.value.hint
    assert list(tmp_path.iterdir()) == [archive]


def test_a_disk_that_takes_no_more_leaves_nothing(tmp_path: Path) -> None:
    archive = zip_file(tmp_path / "birds.zip", {"1.png": b"1", "2.png": random.Random(0).randbytes(1_000_000)})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, limits[1]))
    try:
        with pytest.raises(DataError, match="cannot be written: File too large") as refusal:
            unpack(archive, tmp_path / "birds")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not isinstance(refusal.value, ArchiveError)
    assert list(tmp_path.iterdir()) == [archive]


def corrupt(content: bytes) -> bytes:
    middle = content.index(b"PK\x01\x02") // 2
    return content[:middle] + bytes(byte ^ 0xFF for byte in content[middle : middle + 50]) + content[middle + 50 :]


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    files = {"0.png": b"first", "1.png": random.Random(0).randbytes(20_000)}
    for compression in COMPRESSIONS:
        archive = zip_file(tmp_path / "birds.zip", files, compression=compression)
        whole = archive.read_bytes()
        for damaged in (corrupt(whole), whole[: len(whole) // 2], b"", b"<html>no</html>"):
            archive.write_bytes(damaged)
            with naming(compression, damaged[:20], len(damaged)):
                refused(archive, "damaged, or not a zip archive")


@given(st.data())
def test_a_few_wrong_bytes_never_go_unnoticed_and_never_crash(data: st.DataObject) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in FILES.items():
            opened.writestr(name, content)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as place:
        archive = Path(place) / "birds.zip"
        archive.write_bytes(content)
        try:
            unpack(archive, Path(place) / "birds")
        except DataError:
            assert list(Path(place).iterdir()) == [archive]
        else:
            assert set(tree(Path(place) / "birds").values()) <= set(FILES.values())


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    leftovers = tmp_path / ".birds.unpacking" / "train"
    leftovers.mkdir(parents=True)
    (leftovers / "half.jpg").write_bytes(b"x")
    unpack(zip_file(tmp_path / "birds.zip", FILES), tmp_path / "birds")
    assert tree(tmp_path / "birds") == FILES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["birds", "birds.zip"]


def test_an_empty_folder_is_taken_and_a_full_one_is_not(tmp_path: Path) -> None:
    archive = zip_file(tmp_path / "birds.zip", FILES)
    (tmp_path / "birds").mkdir()
    unpack(archive, tmp_path / "birds")
    with pytest.raises(DataError, match="is there already"):
        unpack(archive, tmp_path / "birds")
    assert tree(tmp_path / "birds") == FILES


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    archive = zip_file(tmp_path / "birds.zip", {"1.png": bytes(3_000_000)})

    def interrupt(event: Any) -> None:
        if event.done == 2:
            assert [path.name for path in (tmp_path / ".birds.unpacking").iterdir()] == ["1.png"]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack(archive, tmp_path / "birds", emit=interrupt)
    assert list(tmp_path.iterdir()) == [archive]
