"""Partly downloaded files, and the version of the file that they belong to."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path

from vitcli.core.files import write_json
from vitcli.core.stored import read_json


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """The version of a file on a server."""

    validator: str = ""
    """ETag, else date of the last change; empty: the server sends neither."""
    total: int = 0
    """Size of the complete file in bytes; 0: not known."""

    def is_other_than(self, new: "Version") -> bool:
        """Tell whether the two versions differ in a validator or size that both have."""
        validators, totals = (self.validator, new.validator), (self.total, new.total)
        return any(all(pair) and pair[0] != pair[1] for pair in (validators, totals))


class PartialFile:
    """A partly downloaded file: its bytes in ``TARGET.part``, their version in ``TARGET.part.json``."""

    def __init__(self, target: Path, *, is_verified: bool = False) -> None:
        """Find the part of a file; ``is_verified``: the hash of the whole file is known, and will be checked."""
        self.target = target
        self._is_verified = is_verified
        self.path = target.with_name(target.name + ".part")
        self._record = target.with_name(target.name + ".part.json")

    def size(self) -> int:
        """Return the number of bytes that have arrived."""
        return self.path.stat().st_size if self.path.exists() else 0

    def version(self) -> Version:
        """Return the recorded version; an empty one if the record is broken or missing."""
        try:
            version: Version = read_json(self._record, Version)
        except (OSError, ValueError):
            return Version()
        return version

    def is_resumable(self) -> bool:
        """Tell whether the rest may be added: a change of the file on the server would be noticed."""
        return self._is_verified or bool(self.version().validator)

    def is_whole(self) -> bool:
        """Tell whether all announced bytes have arrived."""
        return 0 < self.size() == self.version().total

    def begin(self, version: Version) -> None:
        """Record the version before its first byte arrives."""
        self.discard()
        write_json(self._record, asdict(version))

    def discard(self) -> None:
        """Delete the bytes and the record."""
        self.path.unlink(missing_ok=True)  # first: a record without a part does no harm
        self._record.unlink(missing_ok=True)

    def finish(self) -> None:
        """Flush the bytes to the disk, then give the file its final name."""
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        self.path.replace(self.target)
        self._record.unlink(missing_ok=True)
