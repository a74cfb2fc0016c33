"""Training that is killed while it prepares photos, at any moment: the next one finds no half of anything."""

import json
import signal
import sys
from multiprocessing.context import ForkServerContext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.builders.processes import NEVER, Moment, exit_code, vit

PHOTOS = 300
"""More than a chunk of them is prepared for training."""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("killed") / "pets"
    pixels = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    for number in range(PHOTOS):
        folder = root / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.roll(pixels, number, axis=1)).save(folder / f"{number:03d}.jpg", quality=80)
    return root


def content(directory: Path) -> dict[str, bytes]:
    """Everything that counts, by name; temporary files do not."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def test_training_that_is_killed_while_it_prepares_leaves_nothing_half_done(
    processes: ForkServerContext, photos: Path, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    """After some of the photos have been opened, and again as the next file is about to get its name."""
    size = ("--recipe", "photos", "--image-size", "32", "--device", "cpu", "--workers", "1")
    words = ("train", str(photos), *tiny, *size, "--data-dir", "prepared", "--name", "run", "--overwrite")

    def train(folder: Path, kill: Moment) -> int | None:
        folder.mkdir(exist_ok=True)
        return exit_code(processes.Process(target=vit, args=(folder, words, kill)))

    whole = tmp_path / "whole"
    assert train(whole, Moment(folder="pets")) == 0, (whole / "said.txt").read_text()
    expected = content(whole / "prepared")
    assert len(expected) == 4  # facts, duplicates, and the images of both splits
    opened = json.loads((whole / "counts.json").read_text())["open"]
    assert opened >= PHOTOS

    last = tmp_path / "last"  # of the files, which are the images of both splits, one has its name
    assert train(last, Moment("os.rename", len(expected), folder="prepared")) == -signal.SIGKILL
    assert len(content(last / "prepared")) == len(expected) - 1
    cut = tmp_path / "cut"
    naming = Moment("os.rename", 1, folder="prepared")
    for share in (0.1, 0.8):
        for kill in (Moment("open", int(share * opened), folder="pets"), naming):
            assert train(cut, kill) == -signal.SIGKILL, (cut / "said.txt").read_text()
            found = content(cut / "prepared")
            assert found.items() < expected.items()
    assert any(cut.rglob(".*.tmp*"))  # whole, and without its name
    assert train(cut, NEVER) == 0
    assert content(cut / "prepared") == expected
