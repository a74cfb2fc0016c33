"""Commands on mutated files: each must end with an exit code and a message, in time, and without a traceback."""

import contextlib
import io
import random
import re
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import typer

from tests.builders.mutations import (
    mutate_checkpoint,
    mutate_image,
    mutate_run,
    mutate_sidecars,
    odd_setting,
    odd_table,
)
from vitcli.cli.app import app, main
from vitcli.core.config import TrainConfig
from vitcli.core.config_files import settings_of
from vitcli.core.model_config import ModelConfig

LONGEST = 60
"""Seconds after which a command counts as hanging."""
TINY = (
    *("--epochs", "1", "--amp", "off", "--device", "cpu", "--set", "model.depth=1", "--set", "model.width=16"),
    *("--set", "model.num_heads=2", "--set", "model.mlp_width=32"),
)

Fault = str
COMMAND = typer.main.get_command(app)
"""Commands and options, built once, which typer does each time."""


def vit(*words: object) -> tuple[int, str]:
    """Run ``vit WORDS`` in this process; return the exit code and what was printed, both streams together."""
    printed, code = io.StringIO(), 0
    given = patch.object(sys, "argv", ["vit", *map(str, words)])
    built = patch.object(typer.main, "get_command", lambda _app: COMMAND)
    with given, built, contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    return code, printed.getvalue()


def fault_of(work: Callable[[], tuple[int, str]]) -> Fault:
    """Describe what is wrong with how a command ended; empty: nothing."""

    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LONGEST)
    try:
        code, printed = work()
    except TimeoutError:
        return f"hangs: {''.join(traceback.format_exc().splitlines(keepends=True)[-6:])}"
    except BaseException:  # noqa: BLE001 - whatever comes through is what is looked for
        return f"traceback: {''.join(traceback.format_exc().splitlines(keepends=True)[-6:])}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    if code not in {0, 1, 2}:
        return f"exit code {code}: {printed[-300:]}"
    if code and not re.search(r"error: |Error|could not be read|Usage|would stop", printed):
        return f"exit code {code} without a word: {printed[-300:]}"
    return f"traceback: {printed[-600:]}" if "Traceback" in printed else ""


class Robustness:
    """Something of each kind in a folder, to be broken: a data set, a run, exports of other libraries.

    Args:
        folder: an empty folder, the current one.
        draw_images: draws a folder of images: ``draw_images(folder)``.
    """

    def __init__(self, folder: Path, draw_images: Callable[[Path], Path]) -> None:
        self.folder = folder
        self.photos = draw_images(folder / "photos")
        self.image = next(self.photos.rglob("*.png"))
        words = ("--model", "vit-tiny-patch8", "--image-size", "8", "--set", "model.num_heads=1")
        for name in ("run", "plain"):
            given = (*TINY, *words) if name == "plain" else TINY
            code, printed = vit("train", self.photos, *given, "--name", name, "--output-dir", folder / "runs")
            assert code == 0, printed
        vit("eval", "--model", folder / "runs" / "run")
        for kind in ("timm", "transformers"):
            code, printed = vit("export", folder / "runs" / "plain", "-f", kind, "--output", folder / kind)
            assert code == 0, printed
        self.keys = [
            *(
                f"{name}.{key}"
                for name, table in settings_of(TrainConfig()).items()
                for key in table
                if name != "model"
            ),
            *(f"model.{key}" for key in ModelConfig.__dataclass_fields__),
        ]
        self.keys = [key for key in self.keys if not key.startswith(("run.wandb", "run.devices", "run.shard"))]

    def kinds(self) -> dict[str, Callable[[random.Random], Fault]]:
        """The kinds of mutation, and what tries one of them."""
        return {
            "checkpoints": self.checkpoint,
            "run folders": self.run_folder,
            "images": self.picture,
            "sidecars": self.sidecar,
            "settings and tables": self.setting,
        }

    def checkpoint(self, draw: random.Random) -> Fault:
        target = self.folder / "mutated.safetensors"
        mutate_checkpoint(self.folder / "runs" / "run" / "checkpoints" / "best.safetensors", target, draw)
        words = draw.choice([("predict", self.image), ("predict", self.image), ("eval", self.photos)])
        return fault_of(lambda: vit(*words, "--model", target, "--device", "cpu"))

    def run_folder(self, draw: random.Random) -> Fault:
        with self.copy("mutated") as target:
            mutate_run(self.folder / "runs" / "run", target, draw)
            where = ("--output-dir", target.parent)
            words = draw.choice(
                [
                    ("runs", *where),
                    ("eval", "--model", target),
                    ("predict", self.image, *where),
                    ("train", "--resume", "mutated", "--epochs", "2", *where),
                    ("train", "--from-run", target, "--output-dir", self.folder / "again"),
                ]
            )
            return fault_of(lambda: vit(*words))

    def picture(self, draw: random.Random) -> Fault:
        path = mutate_image(self.folder, draw)
        try:
            return fault_of(lambda: vit("predict", path, "--model", self.folder / "runs" / "run", "--device", "cpu"))
        finally:
            path.unlink()

    def sidecar(self, draw: random.Random) -> Fault:
        with self.copy("sidecars") as target:
            mutate_sidecars(self.folder / draw.choice(["timm", "transformers"]), target, draw)
            return fault_of(lambda: vit("predict", self.image, "--model", target, "--device", "cpu"))

    def setting(self, draw: random.Random) -> Fault:
        given: tuple[object, ...] = ("--set", odd_setting(draw, self.keys))
        if draw.random() < 0.5:
            files = sorted(self.photos.rglob("*.png"))[::2]
            table = self.folder / "labels.csv"
            table.write_bytes(odd_table(draw, [file.relative_to(self.photos).as_posix() for file in files]))
            given = ("--labels", table)
        try:
            return fault_of(
                lambda: vit("train", self.photos, *TINY, *given, "--dry-run", "--output-dir", self.folder / "dry")
            )
        finally:
            shutil.rmtree(self.folder / "dry", ignore_errors=True)

    @contextlib.contextmanager
    def copy(self, name: str) -> Iterator[Path]:
        """The place of a copy, alone in its folder, which is removed afterwards."""
        folder = self.folder / "copies"
        folder.mkdir()
        try:
            yield folder / name
        finally:
            shutil.rmtree(folder)
            shutil.rmtree(self.folder / "again", ignore_errors=True)
