"""Where a store lies: a folder of a disk, or a prefix of an object store, with the few steps that a store needs of it.

Both promise that a file written by `write` is there with all of its bytes or not at all, and that one written by
`create` was not there before.

- A folder: bytes go to a draft, are pushed to the disk (fsync) and moved into place; the folder's own entry is pushed
  as well. A lock keeps a second writer out, and the system releases it with the process that held it.
- An object store: a put is whole by itself, and there is nothing to push. There is no lock either. Two writers of one
  store put the same bytes under the same names, which wastes work and harms nothing; two that disagree meet at the
  plan, which only one of them can create.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from uuid import uuid4

from filelock import FileLock

from headlens.errors import StoreError
from headlens.images import is_url

LOCK = ".lock"
DRAFT = ".draft"  # how the names of half-written files end


@runtime_checkable
class Place(Protocol):
    """What a store needs of where it lies. Names are relative, with `/` between folders."""

    @property
    def path(self) -> Path | str:
        """The folder, or the address."""
        ...

    @property
    def is_file(self) -> bool:
        """Whether a file is in the way."""
        ...

    def exists(self, name: str) -> bool:
        """Whether a file is there."""
        ...

    def names(self, folder: str = "") -> set[str]:
        """What lies in a folder; nothing where there is none."""
        ...

    def read(self, name: str) -> bytes:
        """A file's bytes. Raises `FileNotFoundError`."""
        ...

    def read_all(self, names: list[str]) -> Iterator[bytes]:
        """The bytes of many files, in their order."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """A file, whole or not at all, in place of what was there."""
        ...

    def create(self, name: str, content: bytes) -> None:
        """A file that must not be there yet. Raises `StoreError` where another process was faster."""
        ...

    def adopt(self, draft: Path, last: str) -> None:
        """Move in what lies in a local folder, `last` after everything else; `last` must not be there yet."""
        ...

    def remove(self, name: str) -> None:
        """A file, or a folder with all that is in it, where it is there."""
        ...

    def sweep(self, *folders: str) -> None:
        """Remove from these folders what a killed `write` left half-written."""
        ...

    def settle(self, names: Iterable[str]) -> None:
        """Return when files that something else wrote will outlast a loss of power."""
        ...

    def lock(self) -> AbstractContextManager[Any]:
        """For the one process that writes. Raises `filelock.Timeout` where another holds it."""
        ...

    def arrays(self) -> Any:
        """The place as Zarr takes it."""
        ...


class Folder:
    """A place on a disk."""

    def __init__(self, path: Path):
        self.path = path

    @property
    def is_file(self) -> bool:
        return self.path.is_file()

    def exists(self, name: str) -> bool:
        return (self.path / name).is_file()

    def names(self, folder: str = "") -> set[str]:
        where = self.path / folder
        return {entry.name for entry in where.iterdir()} if where.is_dir() else set()

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def read_all(self, names: list[str]) -> Iterator[bytes]:
        return map(self.read, names)

    def write(self, name: str, content: bytes) -> None:
        target = self.path / name
        # A name of its own: on a cluster, two machines may come to write one file.
        draft = target.with_name(f".{target.name}.{uuid4().hex[:8]}{DRAFT}")
        try:
            with draft.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(target)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        _push(target.parent)

    def create(self, name: str, content: bytes) -> None:
        self.write(name, content)  # under the lock nobody else does

    def adopt(self, draft: Path, last: str) -> None:
        for file in sorted(draft.rglob("*"), reverse=True):
            _push(file)
        for entry in sorted(draft.iterdir(), key=lambda entry: (entry.name == last, entry.name)):
            entry.rename(self.path / entry.name)
        _push(self.path)

    def remove(self, name: str) -> None:
        target = self.path / name
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)

    def sweep(self, *folders: str) -> None:
        for folder in folders:
            for leftover in (self.path / folder).glob(f".*{DRAFT}"):
                leftover.unlink()

    def settle(self, names: Iterable[str]) -> None:
        folders: dict[Path, None] = {}
        for file in (self.path / name for name in names):
            if file.exists():  # Zarr leaves a shard out that holds nothing but its fill value
                _push(file)
                folders |= dict.fromkeys(file.parents[: len(file.relative_to(self.path).parents)])
        for folder in folders:
            _push(folder)

    def lock(self) -> AbstractContextManager[Any]:
        self.path.mkdir(parents=True, exist_ok=True)
        return FileLock(self.path / LOCK, timeout=0)

    def arrays(self) -> Any:
        return self.path


class Prefix:
    """A place in an object store, or in whatever else fsspec reaches."""

    def __init__(self, address: str):
        self.path = address.rstrip("/")
        self._system, self._root = _system_of(self.path)

    @property
    def is_file(self) -> bool:
        return False  # an object may stand beside a prefix of the same name

    def exists(self, name: str) -> bool:
        self._system.invalidate_cache()
        return bool(self._system.exists(f"{self._root}/{name}"))

    def names(self, folder: str = "") -> set[str]:
        self._system.invalidate_cache()
        where = f"{self._root}/{folder}".rstrip("/")
        try:
            return {entry.rstrip("/").rsplit("/", 1)[-1] for entry in self._system.ls(where, detail=False)} - {""}
        except FileNotFoundError:
            return set()

    def read(self, name: str) -> bytes:
        return bytes(self._system.cat_file(f"{self._root}/{name}"))

    def read_all(self, names: list[str]) -> Iterator[bytes]:
        step = 500  # at once: each is a request
        for start in range(0, len(names), step):
            paths = [f"{self._root}/{name}" for name in names[start : start + step]]
            found = self._system.cat(paths)
            yield from ([found[path] for path in paths] if isinstance(found, dict) else [found])

    def write(self, name: str, content: bytes) -> None:
        self._system.pipe_file(f"{self._root}/{name}", content)

    def adopt(self, draft: Path, last: str) -> None:
        files = [file for file in sorted(draft.rglob("*")) if file.is_file()]
        for file in sorted(files, key=lambda file: file.relative_to(draft).as_posix() == last):
            name = file.relative_to(draft).as_posix()
            if name == last:
                self.create(name, file.read_bytes())
            else:
                self.write(name, file.read_bytes())

    def create(self, name: str, content: bytes) -> None:
        try:
            self._system.pipe_file(f"{self._root}/{name}", content, mode="create")
        except FileExistsError as error:
            raise StoreError(
                f"to be the one that begins {self.path!r}", "another process that began it first", "Run this again."
            ) from error
        except (NotImplementedError, TypeError, ValueError):  # a storage without conditional puts
            self.write(name, content)

    def remove(self, name: str) -> None:
        self._system.invalidate_cache()
        path = f"{self._root}/{name}"
        if self._system.exists(path):
            self._system.rm(path, recursive=True)

    def sweep(self, *folders: str) -> None:
        """Nothing: a put that was cut off leaves nothing."""

    def settle(self, names: Iterable[str]) -> None:
        """Nothing: a put has returned when the object is durable."""

    def lock(self) -> AbstractContextManager[Any]:
        self.write(LOCK, b"")  # it locks nothing, but says that what else lies here is a store's beginning
        return nullcontext()

    def arrays(self) -> Any:
        from zarr.storage import FsspecStore

        return FsspecStore.from_url(self.path)


def place_of(path: str | os.PathLike[str]) -> Place:
    """The place that a path or an address names. Raises `StoreError` for storage that cannot be reached."""
    text = os.fspath(path)
    if is_url(text):
        return Prefix(text)
    return Folder(Path(text.removeprefix("file://")))


@contextmanager
def told(address: str) -> Iterator[None]:
    """Turn what a storage's own library raises into one sentence."""
    try:
        yield
    except (StoreError, FileNotFoundError, KeyboardInterrupt):
        raise
    except ImportError as error:
        raise StoreError(
            f"what is needed to reach {address!r}",
            str(error).rstrip("."),
            "Install it with: pip install 'headlens[remote]' (S3), or the fsspec package of that storage.",
        ) from error
    except Exception as error:
        raise StoreError(
            f"storage that answers at {address!r}",
            str(error).rstrip(".") or type(error).__name__,
            "Check the address, the network, and the credentials that this storage takes from the environment.",
        ) from error


def _system_of(address: str) -> tuple[Any, str]:
    import fsspec

    with told(address):
        system, root = fsspec.core.url_to_fs(address)
        system.exists(root)
    return system, str(root).rstrip("/")


def _push(path: Path) -> None:
    """To the disk, with its metadata. Where a folder cannot be opened (Windows), its entries need no pushing."""
    try:
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except PermissionError:
        if path.is_dir():
            return
        raise
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
