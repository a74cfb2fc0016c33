"""A long work on disk that can be continued: a folder with a JSON file that says what it is and how it ended."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from vitcli.core.addresses import without_secrets
from vitcli.core.errors import Interrupted, RunError, did_you_mean
from vitcli.core.files import write_json
from vitcli.core.provenance import now
from vitcli.core.run_files import Status
from vitcli.core.run_search import output_dir_option
from vitcli.core.stored import read_json
from vitcli.data.locks import alone_in, is_worked_in


class WorkFile(Protocol):
    """The entries of the JSON file that every kind of work has; it is a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    status: Status
    started: str
    ended: str | None


File = TypeVar("File", bound=WorkFile)


class KeptWork(Generic[File]):
    """A long work, in its folder; subclasses say of which kind it is.

    Args:
        path: the folder.
        stored: the entries of its JSON file.
    """

    FILE: ClassVar[str]
    """The name of the JSON file."""
    ENTRIES: ClassVar[type[Any]]
    """The dataclass of its entries."""
    KIND: ClassVar[str]
    """Name of the kind, in messages."""
    MAKER: ClassVar[str]
    """The command that makes one."""
    IN_USE: ClassVar[str]
    """Words for another process that works in it, in messages."""
    OF_A_FINISHED_ONE: ClassVar[str] = ""
    """Hint about one that is finished, after the hint that there is no other; {where} is the option of the folder."""

    def __init__(self, path: Path, stored: File) -> None:
        self.path = path
        self.stored = stored

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open an existing work.

        Raises:
            RunError: ``path`` is none, or its JSON file cannot be read.
        """
        file = path / cls.FILE
        try:
            return cls(path, read_json(file, cls.ENTRIES))
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(
                f"{path} is not a {cls.KIND}: it has no {cls.FILE}", hint=f"`{cls.MAKER}` makes one"
            ) from None
        except OSError as error:
            raise RunError(f"{file} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise RunError(f"{file} is not a file of vit, or is broken: {error}") from None

    @classmethod
    def find(cls, name: str, output_dir: Path) -> Self:
        """Find a work by its name or path; empty: the newest one that is not finished.

        Raises:
            RunError: there is none.
        """
        known = {path.parent.name: path.parent for path in sorted(output_dir.glob(f"*/{cls.FILE}"))}
        where = output_dir_option(output_dir)
        make = f"`{cls.MAKER}{where}` makes one"
        if name:
            for path in (output_dir / name, Path(name)):
                if (path / cls.FILE).is_file():
                    return cls.open(path)
            hint = did_you_mean(name, known, otherwise=f"there are: {', '.join(known)}" if known else make)
            raise RunError(f"no {cls.KIND} {name!r} in {output_dir}", hint=hint)
        unfinished, broken = list[Self](), list[RunError]()
        for path in known.values():
            try:
                work = cls.open(path)
            except RunError as error:
                broken.append(error)
            else:
                unfinished += [work] * (work.stored.status != "finished" and not is_worked_in(path))
        if not unfinished:
            none = RunError(
                f"no unfinished {cls.KIND} in {output_dir}", hint=make + cls.OF_A_FINISHED_ONE.format(where=where)
            )
            raise broken[0] if broken else none
        return max(unfinished, key=lambda each: each.stored.started)

    def save(self) -> None:
        """Store what has changed."""
        write_json(self.path / self.FILE, without_secrets(asdict(self.stored)), makes_folder=False)

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.path.resolve().name

    def alone(self) -> AbstractContextManager[None]:
        """Lock the folder; raise RunError if another process works in it."""
        busy = RunError(f"another process {self.IN_USE} {self.path}", hint="wait for it, or stop it with Ctrl-C")
        return alone_in(self.path, otherwise=busy)

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Store how the work ends when the block ends: finished, interrupted or failed."""
        self.stored.status, self.stored.ended = "running", None
        self.save()
        status: Status = "failed"
        try:
            yield
            status = "finished"
        except (Interrupted, KeyboardInterrupt):
            status = "interrupted"
            raise
        finally:
            self.stored.status, self.stored.ended = status, now()
            with suppress(OSError):  # a full disk is reported already
                self.save()
