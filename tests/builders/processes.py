"""Commands in processes of their own, which may be killed at a moment of the test's choice."""

import gc
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import typer
from PIL import Image

from vitcli.cli.app import app, main

# NumPy and torch count their threads as they are loaded: nothing that loads them is imported before this module.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for models this small, threads cost more than they bring
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as ``main`` has it: where there are more, they must not spin
Image.init()  # once, and not in every process that opens an image
gc.disable()  # while a million objects are made that stay; workers of pytest turn it on afterwards, and so does ``vit``

PRELOADED = (
    *("tests.builders.processes", "torch._dynamo", "torch.distributed.fsdp", "matplotlib.figure"),
    *(
        "vitcli.workflows.resume",
        "vitcli.workflows.train",
        "vitcli.workflows.tune",
        "vitcli.figures.curves",
        *("filelock", "msgspec", "pydantic.type_adapter", "rich._emoji_codes", "typer._adapters"),
        *("optuna", "wandb"),
        "tests.engine.test_distributed",
        "tests.cli.test_distributed",
        "tests.data.test_kaggle",
    ),
)
"""Imported once, by the server from which all these processes are forked."""

COMMAND = typer.main.get_command(app)
"""Commands and options, built once, also for all these processes; typer builds them in each call."""
with COMMAND.make_context("vit", ["train"]) as _parent:  # once, too, is built what checks the values of its options
    COMMAND.commands["train"].make_context("train", [], parent=_parent)

_LONG = 300
"""Seconds after which a process hangs, on a busy machine too."""


class Moment(NamedTuple):
    """The moment at which a process is killed: as it does something for the n-th time.

    That is an audit event on a file below a folder of this name, or ``step``: an optimiser is about to change its weights.
    """

    event: str = ""
    number: int = 0
    folder: str = "experiments"


NEVER = Moment()


@contextmanager
def running(process: BaseProcess) -> Iterator[BaseProcess]:
    """Start a process, and leave none behind, whatever a test finds."""
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def exit_code(process: BaseProcess) -> int | None:
    """Run a process to its end; None: it does not end."""
    with running(process):
        process.join(_LONG)
        return process.exitcode


def save_empty(_canvas: object, path: Path, **_options: object) -> None:
    """Save an empty picture in place of a figure."""
    Image.new("L", (1, 1)).save(path, format="png")


def vit_with_wandb(folder: Path, words: tuple[str, ...], environment: Mapping[str, str]) -> None:
    """Run ``vit WORDS`` without W&B Launch: a run looks for inputs from it, and goes on where it cannot be imported.

    That import takes longer than the training of a tiny model.
    """
    sys.modules["wandb.sdk.launch"] = None  # type: ignore[assignment]
    vit(folder, words, NEVER, environment)


def open_data_sets(folder: Path, names: tuple[str, ...]) -> None:
    """Open data sets with our modules imported anew, and leave counts of images and loaded modules in ``found.json``.

    Other libraries than torch and NumPy are forgotten before, so that they are seen if they are imported again.
    """
    kept = {"torch", "numpy", __package__.partition(".")[0], *sys.stdlib_module_names}
    for name in [name for name in sys.modules if name.partition(".")[0] not in kept]:
        del sys.modules[name]
    from vitcli.core.config import DataConfig
    from vitcli.data.dataset import open_dataset

    counts = {name: open_dataset(DataConfig(name=name), directory=folder).facts.counts for name in names}
    modules = sorted({module.partition(".")[0] for module in sys.modules})
    (folder / "found.json").write_text(json.dumps([counts, modules]))


def say_what_wandb_lacks(folder: Path) -> None:
    """Check for an account of W&B, where there is none, and leave the error in ``said.txt``."""
    from vitcli.core.config import RunConfig
    from vitcli.core.errors import VitError
    from vitcli.training.loggers import require_loggers

    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE"):
        os.environ.pop(name, None)
    os.environ.update(HOME=str(folder / "home"), NETRC=str(folder / "netrc"))
    try:
        require_loggers(RunConfig(wandb=True))
    except VitError as error:
        (folder / "said.txt").write_text(f"{error.message} {error.hint}")


def vit_with_log(folder: Path, words: tuple[str, ...], log: str) -> None:
    """Run ``vit WORDS`` with a log (stderr) that is ``full``, a pipe that nobody reads (``closed``), or in a file."""
    os.chdir(folder)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if log == "closed":
        read, write = os.pipe()
        os.close(read)
    else:
        write = os.open("/dev/full" if log == "full" else "log.txt", os.O_WRONLY | os.O_CREAT)
    os.dup2(write, 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.stdout, sys.stderr = (os.fdopen(number, "w") for number in (1, 2))
    sys.argv = ["vit", *words]
    main()


def vit(
    folder: Path, words: tuple[str, ...], kill: Moment = NEVER, environment: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Run ``vit WORDS`` in a folder, until it is killed; the environment is that of the server, and what is given.

    What it says is left in ``said.txt``; where it ends, ``counts.json`` has how often each event happened.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    from tests.builders.sketches import Sketch
    from vitcli.figures import canvas

    gc.freeze()
    gc.enable()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored where tests run in the background
    FigureCanvasAgg.print_png = save_empty  # type: ignore[method-assign]
    canvas.Figure = Sketch  # type: ignore[assignment,misc]
    typer.main.get_command = lambda _app: COMMAND
    os.fsync = lambda _handle: None  # what a killed process has written stays; only a power failure would lose it
    os.chdir(folder)
    os.environ.update(environment)
    counts = Counter[str]()

    def happened(event: str) -> None:
        counts[event] += 1
        if kill[:2] == (event, counts[event]):
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in {"open", "os.rename"} and kill.folder in Path(str(arguments[0])).parts:
            happened(event)

    sys.addaudithook(watch)
    register_optimizer_step_pre_hook(lambda *_: happened("step"))
    sys.argv = ["vit", *words]
    with (folder / "said.txt").open("a") as said:
        sys.stdout = sys.stderr = said
        try:
            main()
        finally:  # as a command ends with SystemExit
            (folder / "counts.json").write_text(json.dumps(counts))
