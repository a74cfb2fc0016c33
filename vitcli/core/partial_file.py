"""The part of a file that has arrived while it is being fetched, and the version that it belongs to."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from vitcli.core.files import write_json


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """The version of a file that a part belongs to."""

    validator: str = ""
    """The ETag, else the date of the last change; empty: the server tells neither."""
    total: int = 0
    """Bytes of the whole file; 0: unknown."""

    def is_other_than(self, new: "Version") -> bool:
        """Tell whether both are known and differ."""
        validators, totals = (self.validator, new.validator), (self.total, new.total)
        return any(all(pair) and pair[0] != pair[1] for pair in (validators, totals))


class PartialFile:
    """The bytes, in ``TARGET.part``, and whose they are, in ``TARGET.part.json``."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self._record = target.with_name(target.name + ".part.json")

    def size(self) -> int:
        """Bytes that are here."""
        return self.path.stat().st_size if self.path.exists() else 0

    def version(self) -> Version:
        """As recorded; a record that is broken or missing tells nothing."""
        try:
            content = json.loads(self._record.read_text(encoding="utf-8"))
            return Version(validator=str(content["validator"]), total=int(content["total"]))
        except (OSError, ValueError, TypeError, KeyError):
            return Version()

    def is_whole(self) -> bool:
        """Tell whether all bytes that were announced are here."""
        return 0 < self.size() == self.version().total

    def begin(self, version: Version) -> None:
        """Record what will arrive, before the first byte of it does."""
        self.discard()
        write_json(self._record, asdict(version))

    def discard(self) -> None:
        """Forget everything."""
        self.path.unlink(missing_ok=True)  # first: a record without a part does no harm
        self._record.unlink(missing_ok=True)

    def finish(self) -> None:
        """Give the file its name, once its bytes are on the disk."""
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        self.path.replace(self.target)
        self._record.unlink(missing_ok=True)
