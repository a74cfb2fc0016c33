"""The command-line app: all commands, and the conversion of errors into messages and exit codes."""

import atexit
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout, suppress
from itertools import takewhile
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from typer.core import TyperGroup

from vitcli.cli import listings, runs
from vitcli.cli.attention_map import attention_map
from vitcli.cli.bench import bench
from vitcli.cli.check_labels import check_labels
from vitcli.cli.console import print_error, restore_terminal, show_error, show_warning
from vitcli.cli.download import download
from vitcli.cli.env import env
from vitcli.cli.eval import evaluate
from vitcli.cli.examples import epilog
from vitcli.cli.export import export
from vitcli.cli.options import RunsCommand
from vitcli.cli.predict import predict
from vitcli.cli.pretrain import pretrain
from vitcli.cli.preview import preview
from vitcli.cli.report import report
from vitcli.cli.streams import Unbreakable, readable, usable
from vitcli.cli.train import ResumableCommand, train
from vitcli.cli.tune import tune
from vitcli.cli.usage_errors import NotUnderstood, in_plain_words, with_plain_values
from vitcli.core.errors import InternalError, Interrupted, VitError
from vitcli.core.files import explained
from vitcli.core.interrupts import ending_at_once_by
from vitcli.core.launch import launched_as
from vitcli.core.memory import is_out_of_memory, out_of_memory
from vitcli.core.version import __version__

_BROKEN_PIPE = 141
"""The exit code of programs that a closed pipe ends: 128 + SIGPIPE."""


@contextmanager
def _ended_by_a_closed_pipe() -> Iterator[None]:
    """End the program in silence if the reader of stdout has seen enough, as in ``vit runs | head -1``."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_BROKEN_PIPE)


@contextmanager
def _ended_by_ctrl_c() -> Iterator[None]:
    """Turn Ctrl-C into the error that says so; typer would end the program without a word."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("stopped by Ctrl-C", exit_code=130) from None


def _raise_again(_: Console) -> NoReturn:
    """Raise the ``BrokenPipeError`` that a console is handling; rich would exit with code 1."""
    raise  # noqa: PLE0704 - called where the error is handled


class _Commands(TyperGroup):
    """The commands, which Ctrl-C ends with a message, and a closed pipe in silence; typer has other exit codes."""

    @_ended_by_a_closed_pipe()
    @_ended_by_ctrl_c()
    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Read the words of the command line; help and the version are printed here."""
        return super().make_context(*arguments, **options)

    @_ended_by_a_closed_pipe()
    @_ended_by_ctrl_c()
    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        return super().invoke(ctx)


app = typer.Typer(
    name="vit",
    cls=_Commands,
    help="Train, judge, use and explain Vision Transformers.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
_COMMANDS: dict[str, Callable[..., None]] = {
    "download": download,
    "preview": preview,
    "check-labels": check_labels,
    "train": train,
    "pretrain": pretrain,
    "tune": tune,
    "eval": evaluate,
    "report": report,
    "predict": predict,
    "attention-map": attention_map,
    "export": export,
    "bench": bench,
}
_CLASSES: dict[str, type[RunsCommand]] = dict.fromkeys(("train", "pretrain", "tune"), ResumableCommand) | dict.fromkeys(
    ("eval", "report", "predict", "export"), RunsCommand
)
for name, command in _COMMANDS.items():
    app.command(name, epilog=epilog(name), cls=_CLASSES.get(name))(with_plain_values(command))
for listing in (listings.models, listings.datasets, listings.recipes):
    app.command(rich_help_panel="Lists", epilog=epilog(listing.__name__))(with_plain_values(listing))
app.add_typer(runs.group, rich_help_panel="Lists")
app.command(rich_help_panel="Lists", epilog=epilog("env"))(with_plain_values(env))


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vit {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train, judge, use and explain Vision Transformers."""


@contextmanager
def _silence() -> Iterator[None]:
    """Silence this process while the block runs, because only rank 0 prints if several processes train together."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):  # noqa: PTH123
        yield


def _report(error: VitError) -> None:
    """Show an error on stderr, and with ``--json`` also on stdout, where it stands in place of the result."""
    if not isinstance(error, InternalError):  # of which Python shows the traceback
        show_error(error)
    is_json = "--json" in takewhile(lambda word: word != "--", sys.argv[1:])
    if is_json and error.rank == launched_as().rank:  # of several processes, only one prints a document
        with suppress(OSError):  # the error may be that stdout cannot be written
            print_error(error)


def _report_other(error: Exception) -> bool:
    """Report an error of the system or of a library; False: it is a mistake of ours, whose traceback Python shows."""
    if isinstance(error, OSError):
        _report(explained(error))
        return True
    if is_out_of_memory(error):
        _report(out_of_memory(error))
        return True
    _report(InternalError(f"{type(error).__name__}: {error}"))
    error.add_note(InternalError.usual_hint)
    return False


def _end_at_once(error: Interrupted) -> None:
    """End the process without waiting for its threads; ``--resume`` removes any half-written files from the run."""
    try:
        restore_terminal()
        _report(error)
        sys.stdout.flush()
    finally:
        os._exit(error.exit_code)


def main() -> None:
    """Run the command line: exit code 0, 1 for errors, 2 for usage, 130 and 143 for signals."""
    # Waiting threads must not spin: beside another busy process, spinning makes small models several times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    warnings.showwarning = show_warning
    Console.on_broken_pipe = _raise_again  # type: ignore[assignment, method-assign]
    sys.stdin = readable(sys.stdin)
    sys.stdout, sys.stderr = usable(sys.stdout), Unbreakable(usable(sys.stderr))
    debugging = os.environ.get("VIT_DEBUG") == "1"
    rank = launched_as().rank
    try:
        with _ended_by_ctrl_c(), nullcontext() if rank == 0 else _silence(), ending_at_once_by(_end_at_once):
            sys.exit(app(prog_name="vit", standalone_mode=False) or 0)  # torchrun takes None for a failure
    except NotUnderstood as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # the help is printed
            sys.exit(2)
        mistake = in_plain_words(error)
        _report(mistake)
        sys.exit(mistake.exit_code)
    except VitError as error:
        error.hint = error.hint.replace("vit COMMAND", " ".join(["vit", *sys.argv[1:2]]))
        if error.rank == rank:
            _report(error)
        if debugging:
            raise
        sys.exit(error.exit_code)
    except Exception as error:
        if not _report_other(error) or debugging:
            raise
        sys.exit(1)


def run() -> None:
    """Run the command line as a program of its own, and end the process without taking apart what is in memory.

    Python would destroy every object of torch and matplotlib one by one, which takes a tenth of a short command's time.
    """
    code: int | None = None

    def end() -> None:
        if code is not None:
            with suppress(OSError):  # Python reports what cannot be written
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)

    atexit.register(end)  # first, so that it is called last: after threads have ended, and libraries have cleaned up
    try:
        main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else None
        raise
