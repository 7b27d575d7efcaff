"""One kind of named entries: locators, methods, measures, data sets, suites.

Adding an entry is one decorated function, also from a notebook cell. An entry that belongs to a single run is not
registered: `registry.with_entries({...})` is a registry of its own, and is passed as an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from headlens.errors import UnknownNameError

Entry = TypeVar("Entry")


class Registry(Mapping[str, Entry], Generic[Entry]):
    """Entries by name, in the order in which they were added.

    Args:
        kind: what an entry is, for messages: "locator".
        entries: the first entries.
    """

    def __init__(self, kind: str, entries: Mapping[str, Entry] | None = None):
        self.kind = kind
        self._entries: dict[str, Entry] = dict(entries or {})

    def __getitem__(self, name: str) -> Entry:
        """The entry of that name. Raises `UnknownNameError`, which names the nearest ones, for any other."""
        if name not in self._entries:
            from headlens.cells import nearest  # which brings pandas: too slow for --help

            words = str(name).split()
            near = nearest(str(name), self._entries)
            several = len(words) > 1 and all(word in self._entries for word in words)
            hint = f"Separate names by commas: {','.join(words)}. " if several else ""
            hint = hint or (f"Did you mean {near!r}? " if near else "")
            raise UnknownNameError(f"There is no {self.kind} {name!r}.", f"{hint}Known: {', '.join(self._entries)}.")
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __repr__(self) -> str:
        return f"Registry({self.kind!r}: {', '.join(self._entries)})"

    def add(self, name: str, entry: Entry) -> Entry:
        """Add an entry; one of the same name is replaced."""
        self._entries[name] = entry
        return entry

    def register(self, name: str) -> Callable[[Entry], Entry]:
        """The same as a decorator."""
        return lambda entry: self.add(name, entry)

    def remove(self, name: str) -> None:
        """Take an entry out. Raises `UnknownNameError` for a name that is not there."""
        _ = self[name]
        del self._entries[name]

    def with_entries(self, entries: Mapping[str, Entry]) -> Registry[Entry]:
        """A registry with more entries; this one stays as it is."""
        return Registry(self.kind, {**self._entries, **entries})
