"""Images with more than 8 bits per value: one range for a data set, the same in every command."""

import json
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.conftest import Outcome
from vitcli.core.config import DataConfig
from vitcli.core.errors import DataError
from vitcli.core.events import Warned, ignore
from vitcli.core.preprocessing import Geometry
from vitcli.core.runs import Run
from vitcli.data.dataset import open_dataset
from vitcli.data.deep_images import usual_range
from vitcli.data.preprocess import load_array
from vitcli.data.value_range import find_value_range, with_value_range
from vitcli.engine.checkpoint import load_checkpoint
from vitcli.workflows.attention_api import attention_map

GREY = Geometry(size=(8, 8), channels=1, resize="squash")
RANDOM = np.random.default_rng(0)


def save(folder: Path, arrays: Sequence[NDArray[np.generic]], ending: str = "tif") -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{at}.{ending}" for at in range(len(arrays))]
    for array, file in zip(arrays, files, strict=True):
        Image.fromarray(array).save(file)
    return files


def drawn(low: int, high: int, kind: type[np.generic], count: int = 20) -> list[NDArray[np.generic]]:
    return [RANDOM.integers(low, high + 1, (8, 8)).astype(kind) for _ in range(count)]


def pixels(folder: Path, directory: Path) -> NDArray[np.uint8]:
    dataset = open_dataset(DataConfig(name=str(folder)), directory=directory)
    geometry = dataset.facts.native_geometry
    assert geometry
    return dataset.split("train", geometry).as_array()


@pytest.mark.parametrize(("kind", "ending"), [(np.uint16, "png"), (np.uint16, "tif"), (np.float32, "tif")])
def test_what_8_bits_hold_is_read_as_its_twin_of_8_bits(tmp_path: Path, kind: type[np.generic], ending: str) -> None:
    for name, low, high in (("dark", 40, 69), ("light", 90, 119)):
        arrays = drawn(low, high, np.uint8)
        save(tmp_path / "shallow" / name, arrays, "png")
        save(tmp_path / "deep" / name, [array.astype(kind) for array in arrays], ending)
    ours = pixels(tmp_path / "deep", tmp_path / "data")
    assert np.array_equal(ours, pixels(tmp_path / "shallow", tmp_path / "data"))


def test_12_bits_keep_256_levels_and_share_their_range(tmp_path: Path) -> None:
    bright, dim = np.arange(4096, dtype=np.uint16).reshape(64, 64), np.arange(2048, dtype=np.uint16).reshape(64, 32)
    save(tmp_path / "photos" / "bright", [bright] * 2)
    save(tmp_path / "photos" / "dim", [np.repeat(dim, 2, axis=1)] * 2)
    ours = pixels(tmp_path / "photos", tmp_path / "data")
    assert len(np.unique(ours[0])) == 256
    assert (ours[0].max(), ours[2].max()) == (255, 127)


def test_floats_share_their_range(tmp_path: Path) -> None:
    files = save(tmp_path, [np.full((8, 8), value, dtype=np.float32) for value in (-5, 20, 7.5)])
    assert with_value_range([GREY], files, ignore)[GREY].value_range == (-5, 20)


@pytest.mark.parametrize(
    ("low", "high", "whole", "expected"),
    [
        (0.1, 0.9, False, (0, 1)),
        (0, 1.02, False, (0, 1.02)),
        (40, 119, True, (0, 255)),
        (0, 256, True, (0, 1023)),
        (12, 4011, True, (0, 4095)),
        (100, 60000, True, (0, 65535)),
        (7000, 9000, True, (7000, 9000)),
        (-1024, 3071, True, (-1024, 3071)),
        (0, 100_000, True, (0, 100_000)),
        (300, 300, True, (300, 301)),
        (5.5, 5.5, False, (5.5, 6.5)),
    ],
)
def test_the_range_that_values_suggest(low: float, high: float, whole: bool, expected: tuple[float, float]) -> None:  # noqa: FBT001
    assert usual_range(low, high, whole=whole) == expected


def test_values_that_are_not_finite_do_not_count(tmp_path: Path) -> None:
    broken = np.full((8, 8), np.nan, dtype=np.float32)
    files = save(tmp_path, [broken, np.full((8, 8), 0.5, dtype=np.float32)])
    assert find_value_range(files, emit=ignore) == (0, 1)
    assert find_value_range(files[:1], emit=ignore) is None


@pytest.mark.parametrize("ending", ["jpg", "JPEG", "bmp", "webp", "gif"])
def test_deep_images_are_found_whatever_their_ending(tmp_path: Path, ending: str) -> None:
    files = save(tmp_path, [np.full((8, 8), value, dtype=np.uint16) for value in (0, 4000)], "png")
    renamed = [file.rename(file.with_suffix(f".{ending}")) for file in files]
    Image.new("L", (8, 8)).save(tmp_path / "shallow.jpg")
    missing = tmp_path / "missing.jpg"
    assert find_value_range([*renamed, tmp_path / "shallow.jpg", missing], emit=ignore) == (0, 4095)


def test_what_is_transparent_becomes_white(tmp_path: Path) -> None:
    array = np.full((8, 8), 1000, dtype=np.uint16)
    array[:, 4:] = 3000
    Image.fromarray(array).save(tmp_path / "deep.png", transparency=1000)
    grey = load_array(tmp_path / "deep.png", replace(GREY, value_range=(0, 4095)))[0]
    assert grey.tolist() == [[255] * 4 + [187] * 4] * 8


def test_colours_of_16_bits_that_become_black_are_said(tmp_path: Path) -> None:
    (tmp_path / "dark.png").write_bytes(colours_of_16_bits(9 * 256 + 5))
    (tmp_path / "light.png").write_bytes(colours_of_16_bits(65535))
    (text,) = said([tmp_path / "dark.png"])
    assert "1 image has 16 bits per channel" in text
    assert "above 9 of 255" in text
    assert said([tmp_path / "dark.png", tmp_path / "light.png"]) == []


def said(files: Sequence[Path]) -> list[str]:
    events: list[object] = []
    find_value_range(files, emit=events.append)
    return [event.text for event in events if isinstance(event, Warned)]


def colours_of_16_bits(value: int) -> bytes:
    """A PNG of 8 x 8 equal colours with 16 bits per channel, which Pillow cannot write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + struct.pack(">H", value) * 3 * 8) * 8)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.fixture
def deep_run(run_cli: Callable[..., Outcome], tiny: tuple[str, ...], tmp_path: Path) -> tuple[Outcome, Path]:
    for name, low, high in (("dark", 40, 1900), ("light", 900, 3900)):
        save(tmp_path / "deep" / name, drawn(low, high, np.uint16, 30))
    outcome = run_cli("train", tmp_path / "deep", *tiny, "--name", "deep")
    assert outcome.code == 0, outcome.err
    return outcome, tmp_path / "deep"


def test_the_range_is_said_stored_and_used_by_every_command(
    deep_run: tuple[Outcome, Path], run_cli: Callable[..., Outcome], tmp_path: Path
) -> None:
    outcome, folder = deep_run
    assert "0 is taken as black and 4095 as white" in outcome.err
    stored = load_checkpoint(Run(tmp_path / "experiments" / "deep").best_checkpoint).preprocessing
    assert stored.geometry.value_range == (0, 4095)
    checked = run_cli("train", folder, "--dry-run", "--json", "--set", "data.value_range=[0,2047]")
    assert checked.code == 0, checked.err
    assert json.loads(checked.out)["value_range"] == [0, 2047]
    assert "is taken as black" not in checked.err


def test_a_model_of_8_bits_reads_deep_images_alike_in_every_command(
    trained_run: Path, run_cli: Callable[..., Outcome], tmp_path: Path
) -> None:
    files = save(tmp_path / "images", [255 * array for array in drawn(0, 16, np.uint16, 3)], "png")
    shallow = save(
        tmp_path / "twins",
        [np.asarray(np.asarray(Image.open(file)) / 4095 * 255).round().astype(np.uint8) for file in files],
        "png",
    )
    outcome = run_cli("predict", *files, "--model", trained_run, "--json")
    assert "some here have more: 0 is taken as black and 4095 as white" in outcome.err
    twins = run_cli("predict", *shallow, "--model", trained_run, "--json")
    assert [row["classes"] for row in json.loads(outcome.out)["rows"]] == [
        row["classes"] for row in json.loads(twins.out)["rows"]
    ]
    explained = run_cli("attention-map", files[0], "--model", trained_run, "-o", "map.png")
    assert explained.code == 0, explained.err
    assert "some here have more" in explained.err


def warnings_of(geometry: Geometry, files: Sequence[Path]) -> list[str]:
    events: list[object] = []
    with_value_range([geometry], files, events.append)
    return [event.text for event in events if isinstance(event, Warned)]


def test_images_that_do_not_fit_a_models_range_are_said(tmp_path: Path) -> None:
    model = replace(GREY, value_range=(0, 4095))
    fitting = save(tmp_path / "fitting", drawn(10, 4000, np.uint16, 3))
    brighter = save(tmp_path / "brighter", drawn(10, 9000, np.uint16, 3))
    shares = save(tmp_path / "shares", [array / 4095 for array in map(np.float32, drawn(10, 4000, np.uint16, 3))])
    shallow = save(tmp_path / "shallow", drawn(10, 250, np.uint8, 3), "png")
    assert warnings_of(model, fitting) == []
    assert "the rest is cut off" in warnings_of(model, brighter)[0]
    assert "have values from 0" in warnings_of(model, shares)[0]
    assert "have 8 bits per value" in warnings_of(model, shallow)[0]


def test_whole_numbers_and_fractions_together_are_said(tmp_path: Path) -> None:
    files = save(tmp_path / "a", drawn(10, 60000, np.uint16, 2), "png")
    files += save(tmp_path / "b", [RANDOM.random((8, 8)).astype(np.float32)])
    (mixed, guess) = warnings_of(GREY, files)
    assert "one range is used for both" in mixed
    assert "is taken as black" in guess


@pytest.mark.usefixtures("deep_run")
def test_eval_uses_the_range_of_the_model_and_names_values_that_do_not_fit(
    run_cli: Callable[..., Outcome], tmp_path: Path
) -> None:
    cases: list[tuple[int, type[np.generic], str]] = [
        (900, np.uint16, ""),
        (9000, np.uint16, "from 0 to 4095, and these have values from "),
        (250, np.uint8, "from 0 to 4095, and these have 8 bits per value"),
    ]
    for high, kind, said in cases:
        for name in ("dark", "light"):
            save(tmp_path / f"to-{high}" / name, drawn(40, high, kind, 8), "png")
        outcome = run_cli("eval", tmp_path / f"to-{high}", "--model", "deep")
        assert outcome.code == 0, outcome.err
        assert "is taken as black" not in outcome.err
        assert outcome.err.count("the model was trained on images with values") == bool(said)
        assert said in outcome.err


def test_a_picture_is_read_as_its_file(trained_run: Path, tmp_path: Path) -> None:
    (file,) = save(tmp_path, drawn(0, 4000, np.uint16, 1), "png")
    with pytest.warns(UserWarning, match="0 is taken as black and 4095 as white"):
        from_file = attention_map(str(trained_run), file)
    with Image.open(file) as image:
        assert np.array_equal(from_file.weights, attention_map(str(trained_run), image).weights)
    with pytest.raises(DataError, match=r"^the image has values that are not finite"):
        attention_map(str(trained_run), Image.fromarray(np.full((8, 8), np.nan, dtype=np.float32)))
