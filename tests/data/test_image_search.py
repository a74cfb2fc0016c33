"""Images in folders of all kinds of files: by ending and by content, and what is not read is counted."""

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image, features

from tests.conftest import Outcome, naming
from vitcli.core.errors import DataError
from vitcli.core.events import Event, Warned
from vitcli.core.preprocessing import Geometry
from vitcli.data.image_files import image_files
from vitcli.data.preprocess import load_array
from vitcli.data.sources.image_search import find_images

ImageFolder = Callable[..., Path]
GEOMETRY = Geometry(size=(24, 32), channels=3, resize="squash")
FORMATS = ["bmp", "gif", "heic", "ico", "jp2", "jpg", "pcx", "png", "ppm", "sgi", "tga", "tif", "webp"]
FORMATS += ["avif"] * ("avif" in features.get_supported())  # without which some Pillows are built


@pytest.fixture
def photo() -> Image.Image:
    waves = np.sin(np.mgrid[0:24, 0:32].sum(axis=0) / 5)
    return Image.fromarray((127.5 + 100 * np.stack([waves, -waves, waves], axis=-1)).astype(np.uint8))


def save(photo: Image.Image, path: Path, kind: str) -> Path:
    if kind == "heic":
        pillow_heif.register_heif_opener()
    options = {"quality": 95} if kind in {"jpg", "webp", "avif", "heic"} else {}
    photo.save(path.with_suffix(f".{kind}"), **options)
    return path.with_suffix(f".{kind}").rename(path)


def test_suffixes_count_in_any_case(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "c.Tiff", "d.webp", "e.jpeg", "f.txt", "g.jfif", "h.JPE"):
        (tmp_path / name).touch()
    assert "".join(path.name[0] for path in find_images(tmp_path)) == "abcdegh"


def test_a_hidden_folder_above_does_not_hide_images(image_folder: ImageFolder, tmp_path: Path) -> None:
    folder = image_folder(tmp_path / ".cache" / "pets", {"cat": 1})
    assert len(find_images(folder)) == 1


def test_every_format_is_found_and_read(photo: Image.Image, tmp_path: Path) -> None:
    for kind in FORMATS:
        folder = tmp_path / kind
        folder.mkdir()
        with naming(kind):
            save(photo, folder / f"photo.{kind}", kind)
            (file,) = find_images(folder)
            assert np.abs(load_array(file, GEOMETRY).transpose(1, 2, 0) - np.asarray(photo, dtype=float)).mean() < 12


def test_content_counts_where_the_ending_says_nothing(photo: Image.Image, tmp_path: Path) -> None:
    for kind, name in product(
        sorted({*FORMATS} - {"ico", "pcx", "ppm", "sgi", "tga"}), ("photo", "photo.0", "photo.dat")
    ):
        folder = tmp_path / kind / f"of {name}"
        folder.mkdir(parents=True)
        with naming(kind, name):
            save(photo, folder / name, kind)
            is_sure = name == "photo" or kind not in {"bmp", "tif"}  # .nef, .dng and other raw files begin like TIFF
            assert [path.name for path in find_images(folder)] == ([name] if is_sure else [])
            assert load_array(folder / name, GEOMETRY).shape == (3, 24, 32)


def test_other_content_is_no_image(tmp_path: Path) -> None:
    for content in [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"%PDF-1.4\n", b"BMW", b""]:
        with naming(content):
            for name in ("file.bin", "file.jpg"):
                (tmp_path / name).write_bytes(content)
            passed_over: dict[str, list[str]] = {}
            assert find_images(tmp_path, passed_over) == [tmp_path / "file.jpg"]
            assert passed_over == {".bin": [str(tmp_path / "file.bin")]}
            with pytest.raises(
                DataError, match=r"file\.jpg (is not an image in a known format|cannot be read|is empty)"
            ):
                load_array(tmp_path / "file.jpg", GEOMETRY)


def test_heic_names_the_package_that_reads_it(
    photo: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save(photo, tmp_path / "photo.heic", "heic")
    monkeypatch.delitem(Image.OPEN, "HEIF")
    monkeypatch.setattr(pillow_heif, "register_heif_opener", lambda: None)
    with pytest.raises(DataError, match=r"photo\.heic is HEIC, which needs a package: uv sync --extra heic") as caught:
        load_array(file, GEOMETRY)
    assert caught.value.hint == "or convert the image to JPEG"


def test_a_damaged_heic_needs_no_package(photo: Image.Image, tmp_path: Path) -> None:
    file = save(photo, tmp_path / "photo.heic", "heic")
    for size in (100, file.stat().st_size // 2):
        file.write_bytes(file.read_bytes()[:size])
        with pytest.raises(DataError, match=r"photo\.heic cannot be read") as caught:
            load_array(file, GEOMETRY)
        assert "package" not in str(caught.value)


def test_what_is_no_image_is_counted_and_broken_links_count_as_images(
    image_folder: ImageFolder, tmp_path: Path
) -> None:
    folder = image_folder(tmp_path / "photos", {"cat": 2})
    for name in ("notes.txt", "more.txt", "film.mp4", ".hidden", "Thumbs.db"):
        (folder / name).touch()
    (folder / "lost.jpg").symlink_to("gone.jpg")
    (folder / "elsewhere").symlink_to(tmp_path)
    events: list[Event] = []
    assert [path.name for path in image_files([str(folder)], events.append)] == ["000.png", "001.png", "lost.jpg"]
    links, others = [event.text for event in events if isinstance(event, Warned)]
    assert links.startswith(f"linked folders below {folder} are not followed: elsewhere;")
    assert others == f"not images, so ignored in {folder}: 2 .txt (more.txt, notes.txt), 1 .mp4 (film.mp4)"


def test_predict_has_a_row_for_every_image(
    run_cli: Callable[..., Outcome], trained_run: Path, photo: Image.Image, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for kind in ("tga", "jp2", "webp"):
        save(photo, folder / f"photo.{kind}", kind)
    save(photo, folder / "unnamed", "png")
    (folder / "broken.avif").write_bytes(b"\0" * 99)
    (folder / "notes.txt").touch()
    (folder / "lost.jpg").symlink_to("gone.jpg")
    outcome = run_cli("predict", folder, "--model", trained_run, "--json")
    rows = {Path(row["path"]).name: row["error"] for row in json.loads(outcome.out)["rows"]}
    assert sorted(rows) == ["broken.avif", "lost.jpg", "photo.jp2", "photo.tga", "photo.webp", "unnamed"]
    assert [name for name, error in rows.items() if error] == ["broken.avif", "lost.jpg"]
    assert "no such image" in rows["lost.jpg"]
    assert outcome.code == 1
    assert "1 .txt (notes.txt)" in outcome.err
    assert "4 predicted, 2 could not be read" in outcome.err
