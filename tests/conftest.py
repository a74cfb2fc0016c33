"""What every test stands on: folders of its own, small pictures, one trained run, and the command line in process."""

import atexit
import gc
import io
import itertools
import multiprocessing
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from hypothesis import settings
from PIL import Image, ImageDraw

from tests.builders.processes import COMMAND, PRELOADED, save_empty
from tests.builders.schemas import check_document, command_in
from vitcli.cli.app import main

os.environ.setdefault("VIT_BFLOAT16", "no")  # what a test computes does not depend on what is faster here
os.environ.pop("UV_RUN_RECURSION_DEPTH", None)  # processes forked for tests say `vit` too, not `uv run vit`
settings.register_profile("vit", deadline=None, database=None, derandomize=True, max_examples=15)
settings.register_profile("thorough", settings.get_profile("vit"), max_examples=100)  # takes `.ci/run` 30 s
settings.load_profile("vit")

TINY = (
    *("--epochs", "1"),
    *("--amp", "off"),  # so that no processor is asked which precision is faster
    *("--set", "model.depth=1"),
    *("--set", "model.width=16"),
    *("--set", "model.num_heads=2"),
    *("--set", "model.mlp_width=32"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests that start processes or compile first, so that one worker has them all and imports for them once."""
    items.sort(key=lambda item: "processes" not in getattr(item, "fixturenames", ()) and "compil" not in item.nodeid)


IN_MEMORY = Path("/dev/shm")
if (
    os.access(IN_MEMORY, os.W_OK)
    and not os.statvfs(IN_MEMORY).f_flag & os.ST_NOEXEC
    and shutil.disk_usage(IN_MEMORY).free > 2 * 10**9
):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(IN_MEMORY))  # where 30,000 small files cost less

IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ
if IS_WORKER:
    atexit.register(os._exit, 0)  # last of all, because taking a million objects down one by one takes seconds


def pytest_collection_finish() -> None:
    """Let the garbage collector look at what tests make, now and then, and never at what libraries have made."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    gc.enable()


def pytest_unconfigure() -> None:
    """Let libraries take down what they have made, some of which complain otherwise."""
    if not IS_WORKER:
        gc.unfreeze()


class Outcome(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


@contextmanager
def naming(*case: object) -> Iterator[None]:
    """Add the case of a loop to the message of what fails in it; a test for each case would take longer than the case."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"case: {', '.join(map(repr, case))}")
        raise


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tests' data sets are kept."""
    return tmp_path_factory.mktemp("data")


_NUMBERS = itertools.count()


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for one test. That of pytest also renews a link to it, which takes longer than most tests."""
    name = re.sub(r"\W", "_", request.node.name)[:30]
    path = tmp_path_factory.getbasetemp() / f"{name}{next(_NUMBERS)}"
    path.mkdir()
    return path


@pytest.fixture(autouse=True)
def _away_from_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data_dir: Path) -> None:
    """Nothing is written into the checkout or the user's cache, and no setting of the user's counts."""
    monkeypatch.setenv("VIT_DATA_DIR", str(data_dir))
    monkeypatch.setenv("COLUMNS", "120")
    for name in ("VIT_OUTPUT_DIR", "VIT_DEBUG", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session", autouse=True)
def _no_power_failure() -> Iterator[None]:
    """Files need not survive a power failure, for which tests and what they share would wait thousands of times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _handle: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_figures() -> Iterator[Mapping[tuple[Any, str], Any]]:
    """Save figures as empty pictures, those of runs that many tests share too; yield what draws real ones.

    Our code runs, and what it hands to matplotlib and Pillow is not built: that took more time than all training.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from tests.builders.sketches import Sketch
    from vitcli.figures import board, canvas

    stand_ins: dict[tuple[Any, str], Any] = {
        (canvas, "Figure"): Sketch,
        (FigureCanvasAgg, "print_png"): save_empty,
        (board.Board, "image"): lambda _: Image.new("L", (1, 1)),
    }
    real = {(owner, name): getattr(owner, name) for owner, name in stand_ins}
    with pytest.MonkeyPatch.context() as patch:
        for (owner, name), stand_in in stand_ins.items():
            patch.setattr(owner, name, stand_in)
        yield real


@pytest.fixture(autouse=True)
def _figures(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, _no_figures: Mapping[tuple[Any, str], Any]
) -> None:
    """Draw figures in ``tests/figures`` and in tests that are marked ``pictures``."""
    if "figures" in request.path.parts or request.node.get_closest_marker("pictures"):
        for (owner, name), real in _no_figures.items():
            monkeypatch.setattr(owner, name, real)


@pytest.fixture
def short_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """``vit bench`` measures the peak of the device with few products of the smallest size."""
    monkeypatch.setattr("vitcli.engine.hardware._PEAK_SECONDS", 0.0)
    monkeypatch.setattr("vitcli.engine.hardware._LONGEST", 0.0)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch computes with one thread, so that no cores share a batch: the bits of a sum depend on their number."""
    from torch import get_num_threads, set_num_threads

    before = get_num_threads()
    set_num_threads(1)
    yield
    set_num_threads(before)


@pytest.fixture(scope="session")
def run_cli() -> Callable[..., Outcome]:
    """``vit WORDS`` in this process, through ``main``: exit code, stdout, stderr.

    With ``--json``, stdout must be one document as the published schema describes it, whatever the test is about.
    """

    def run(*words: object) -> Outcome:
        out, err, code = io.StringIO(), io.StringIO(), 0
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr(typer.main, "get_command", lambda _app: COMMAND)
            patch.setattr(sys, "argv", ["vit", *map(str, words)])
            try:
                main()
            except SystemExit as end:
                code = int(end.code or 0)
        if "--json" in words:
            check_document(command_in(list(map(str, words))), out.getvalue())
        return Outcome(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    """Options that make training a matter of moments."""
    return TINY


@pytest.fixture(scope="session")
def image_folder() -> Callable[..., Path]:
    """``image_folder(root, {"train/cat": 3, "train/dog": 3}, size=(8, 8), mode="L")`` draws so many PNG files each.

    The last part of a folder's name is the class, which decides where the square stands; no two images are the same.
    """

    def draw(root: Path, counts: Mapping[str, int], *, size: tuple[int, int] = (8, 8), mode: str = "L") -> Path:
        height, width = size
        classes = sorted({Path(folder).name for folder in counts})
        number = 0
        for folder, count in counts.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            left = classes.index(Path(folder).name) * width // (2 * len(classes))
            for index in range(count):
                image = Image.new(mode, (width, height))
                box = [left, height // 4, left + width // 2, 3 * height // 4]
                ImageDraw.Draw(image).rectangle(box, fill=(255 if mode == "L" else (255, 200, 100)))
                image.putpixel((0, 0), number % 256 if mode == "L" else (number % 256, number // 256, 0))
                image.save(root / folder / f"{index:03d}.png")
                number += 1
        return root

    return draw


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """Processes that begin with everything imported: they start at once, and what they are killed in is their work."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED])
    ensure_running()  # now, with the environment of no test
    return context


@pytest.fixture(scope="session")
def trained_run(
    run_cli: Callable[..., Outcome], data_dir: Path, tmp_path_factory: pytest.TempPathFactory, tiny: tuple[str, ...]
) -> Path:
    """The folder of a run on the digits, two epochs long, one block deep; its parent holds no other run."""
    output_dir = tmp_path_factory.mktemp("experiments")
    where = ("--output-dir", output_dir, "--data-dir", data_dir)
    outcome = run_cli("train", "digits", *tiny, "--epochs", "2", "--name", "shared", "--device", "cpu", *where)
    assert outcome.code == 0, outcome.err
    return output_dir / "shared"


@pytest.fixture(scope="session")
def shapes(image_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two classes of ten grey 8 x 8 images each, quick to train on; not to be changed."""
    return image_folder(tmp_path_factory.mktemp("folders") / "shapes", {"left": 10, "right": 10})


@pytest.fixture(scope="session")
def digit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image file of 8 x 8 grey pixels."""
    path = tmp_path_factory.mktemp("digit") / "digit.png"
    image = Image.new("L", (8, 8))
    ImageDraw.Draw(image).line([(4, 0), (4, 7)], fill=255, width=2)
    image.save(path)
    return path
