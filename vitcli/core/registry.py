"""Read-only tables of named entries, which suggest the nearest name for an unknown one; lazy import of objects."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Generic, TypeVar

from vitcli.core.errors import UsageError, did_you_mean

Entry = TypeVar("Entry")


class Registry(Mapping[str, Entry], Generic[Entry]):
    """A read-only table of named entries of one kind.

    Args:
        kind: the kind of the entries, for messages: "model", "data set" ...
        entries: the entries by name.
        listing: the command that lists the entries.
    """

    def __init__(self, kind: str, entries: Mapping[str, Entry], *, listing: str) -> None:
        self.kind = kind
        self.listing = listing
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> Entry:
        """Return the entry of a name; an unknown name raises UsageError, which suggests the nearest name."""
        try:
            return self._entries[name]
        except KeyError:
            listed = f"`{self.listing}` lists them all"
            near = did_you_mean(name, self._entries)
            hint = f"{near} {listed}" if near else listed
            raise UsageError(f"unknown {self.kind} {name!r}", hint=hint) from None

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def load_object(path: str) -> Any:
    """Import ``package.module:name`` and return the object."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
