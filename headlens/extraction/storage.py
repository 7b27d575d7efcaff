"""Where a store lies: a folder of a disk, or a prefix of an object store, with the few steps that a store needs of it.

A file that `write` wrote is there with all of its bytes or not at all, and outlasts a loss of power. On a disk, bytes
go to a draft, are fsynced and moved into place, and the folders' own entries are fsynced as well; on an object store a
put is whole and durable by itself. fsspec reaches both, as it does for images and manifests. The write to a disk is
ours, since neither fsspec, nor Zarr's own stores, nor obstore fsyncs.

Two writers: on a disk a lock keeps the second one out, and the system releases it with the process that held it. On an
object store there is none: two writers of one store put the same bytes under the same names, which wastes work and
harms nothing, and two that disagree meet at the plan, which only one of them can create.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
from filelock import FileLock, Timeout

from headlens.errors import HeadlensError, StoreError, StoreWarning
from headlens.images import is_url

Shard = tuple[int, int]
WHOLE: Shard = (0, 1)
LOCK = ".lock"  # how the names of locks begin
DRAFT = ".draft"  # how the names of half-written files end
_AT_ONCE = 500  # requests for small objects


class Storage:
    """A folder, or what an address names. Names of files are relative, with `/` between folders.

    Args:
        path: the folder, or an address that fsspec reaches (`s3://bucket/acts.zarr`).
        shard: which of how many writers this is, counted from 0.

    Attributes:
        path: the folder, or the address.
        local: whether it is a folder of this machine.

    Raises:
        StoreError: where the storage does not answer.
    """

    path: Path | str

    def __init__(self, path: str | os.PathLike[str], shard: Shard = WHOLE):
        text = os.fspath(path)
        self.local = not is_url(text)
        self.path = Path(text.removeprefix("file://")) if self.local else text.rstrip("/")
        self._writer = f".{shard[0]}-of-{shard[1]}"
        self._lock = LOCK + self._writer * (shard != WHOLE)
        with self.reporting("cannot be reached"):
            self._system, root = fsspec.core.url_to_fs(str(self.path))
            self._root = str(root).rstrip("/")
            if not self.local:
                self._system.exists(self._root)

    def exists(self, name: str = "") -> bool:
        """Whether there is such a file or folder."""
        self._system.invalidate_cache()
        return bool(self._system.exists(self._at(name)))

    def names(self, folder: str = "") -> set[str]:
        """What lies in a folder; nothing where there is none."""
        self._system.invalidate_cache()
        try:
            entries = self._system.ls(self._at(folder), detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return set()
        return {str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in entries} - {""}

    def read(self, name: str) -> bytes:
        """A file's bytes."""
        return bytes(self._system.cat_file(self._at(name)))

    def read_all(self, names: list[str]) -> Iterator[bytes]:
        """The bytes of many files, in their order."""
        if self.local:
            yield from map(self.read, names)
            return
        for start in range(0, len(names), _AT_ONCE):
            paths = [self._at(name) for name in names[start : start + _AT_ONCE]]
            found = self._system.cat(paths)
            yield from ([found[path] for path in paths] if isinstance(found, dict) else [found])

    def write(self, name: str, content: bytes, new: bool = False) -> None:
        """Write a file, whole or not at all.

        Args:
            name: the file.
            content: its bytes; they replace what was there.
            new: replace nothing. Raises `FileExistsError` where the file is there, also where another process put it
                there a moment ago (on an object store without conditional
                puts that cannot be checked, which a `StoreWarning` says).
        """
        if self.local:
            self._write_on_disk(Path(self._root) / name, content, new)
        elif not new:
            self._system.pipe_file(self._at(name), content)
        else:
            try:
                self._system.pipe_file(self._at(name), content, mode="create")
            except (NotImplementedError, TypeError, ValueError) as error:  # as file systems say that they have none
                warnings.warn(
                    f"{self._root} has no conditional put ({error}): that nobody else began the same store at the same "
                    "moment cannot be checked.",
                    StoreWarning,
                    stacklevel=2,
                )
                self._system.pipe_file(self._at(name), content)

    def _write_on_disk(self, target: Path, content: bytes, new: bool) -> None:
        absent = list(takewhile(lambda folder: not folder.exists(), target.parents))
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}.{uuid4().hex[:8]}{self._writer}{DRAFT}")
        try:
            with draft.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if new:
                os.link(draft, target)
                draft.unlink()
            else:
                draft.replace(target)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        for folder in {target.parent, *(folder.parent for folder in absent)}:
            _fsync(folder)

    @contextmanager
    def only_writer(self) -> Iterator[None]:
        """Keep out whatever else would write what this writer writes. Raises `StoreError` where it is there already."""
        with ExitStack() as stack:
            with self.reporting("cannot be written to"):
                if not self.local:  # this locks nothing, but shows that what else lies here is a store's beginning
                    self.write(LOCK, b"")
                else:
                    Path(self._root).mkdir(parents=True, exist_ok=True)
                    stack.enter_context(FileLock(Path(self._root) / self._lock, timeout=0))
                    for draft in Path(self._root).rglob(f".*{self._writer}{DRAFT}"):  # of one that was killed
                        draft.unlink()
            yield

    @contextmanager
    def reporting(self, problem: str) -> Iterator[None]:
        """Turn what the system or a storage's own library raises into one sentence.

        Args:
            problem: what is wrong, after the name of the store: "cannot be written to".
        """
        try:
            yield
        except HeadlensError:
            raise
        except Timeout as error:
            raise StoreError(
                f"Another process is writing to {str(self.path)!r}.",
                "Wait until it is done: the store is then complete. Or name another folder.",
            ) from error
        except Exception as error:  # every storage has errors of its own
            if self.local and not isinstance(error, OSError):
                raise
            said = (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")
            remedy = "Check the address, the network, and the credentials that this storage takes from the environment."
            if self.local:
                remedy = "Make room, or name a folder that you may write to. Blocks that are whole stay."
            elif isinstance(error, ImportError | ValueError):
                remedy += " pip install 'headlens[remote]' brings S3, fsspec's other packages other storages."
            raise StoreError(f"{str(self.path)!r} {problem}: {said}.", remedy) from error

    def zarr_store(self) -> Any:
        """The storage as Zarr reads it."""
        if self.local:
            return Path(self._root)
        from zarr.storage import FsspecStore

        return FsspecStore.from_url(str(self.path), read_only=True)

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}".rstrip("/")


def _fsync(folder: Path) -> None:
    """A folder's entries to the disk. Where folders cannot be opened (Windows), they need no fsync."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
