"""Training that is killed while it prepares photos, at any moment: the next one finds no half of anything."""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitcli.cli.app import main

KILLS = 10
PHOTOS = 300
"""More than a chunk of them is prepared for training."""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")


def vit(*words: str) -> None:
    """A command in a process of its own, which says nothing."""
    sys.argv = ["vit", *words]
    with Path(os.devnull).open("w") as nowhere:
        sys.stdout = sys.stderr = nowhere
        main()


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Processes that begin with torch imported, so that what they are killed in is not the import."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vitcli.workflows.train", "tests.cli.test_killed"])
    return context


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("killed") / "pets"
    pixels = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
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


def listing(directory: Path) -> set[tuple[str, int]]:
    """Every file and its size, those under way too."""
    found = set()
    for path in directory.rglob("*"):
        with suppress(FileNotFoundError):
            found.add((path.name, path.stat().st_size))
    return found


def wait_until(condition: Callable[[], bool], process: BaseProcess) -> None:
    until = time.monotonic() + 120
    while not condition() and process.is_alive() and time.monotonic() < until:
        time.sleep(0.002)


def test_training_that_is_killed_while_it_prepares_leaves_nothing_half_done(
    processes: ForkServerContext, photos: Path, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    size = ("--image-size", "32", "--set", "model.patch_size=16", "--device", "cpu", "--workers", "1")

    def training(directory: Path) -> BaseProcess:
        where = ("--data-dir", str(directory), "--output-dir", str(tmp_path / "runs"))
        process = processes.Process(target=vit, args=("train", str(photos), *tiny, *size, *where))
        process.start()
        return process

    whole, directory = tmp_path / "whole", tmp_path / "data"
    process = training(whole)
    process.join(120)
    assert process.exitcode == 0
    expected = content(whole)
    assert len(expected) == 4  # facts, duplicates, and the images of both splits

    in_the_middle = 0
    for number in range(KILLS):
        process = training(directory)
        for _ in range(1 + number % 4):  # a file that appears or grows, so many times
            before = listing(directory)
            wait_until(lambda before=before: listing(directory) != before, process)
        process.kill()
        process.join(60)
        found = content(directory)
        assert found.items() <= expected.items()
        in_the_middle += found != expected
        for name in found if found == expected else ():
            (directory / name).unlink()
    assert in_the_middle >= KILLS // 3
    assert any(directory.rglob(".*.tmp*"))
    process = training(directory)
    process.join(60)
    assert process.exitcode == 0
    assert content(directory) == expected
