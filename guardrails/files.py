"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from guardrails.errors import ImageError, StorageError

# Of what has no final name yet.
STAGED_PREFIX = ".staged-"


def write_atomically(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write `data` to a temporary file beside `path`, fsync, rename, fsync the folder.

    Raises:
        StorageError: the folder cannot be written or the disk is full; nothing is left behind.
    """
    temporary = stage(path.parent, data, mode=mode)
    try:
        publish(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def stage(folder: Path, data: bytes, *, mode: int = 0o644) -> Path:
    """Write `data` durably under a hidden temporary name in `folder` and return that name."""
    temporary: str | None = None
    try:
        with _storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=STAGED_PREFIX)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, mode)
        sync_folder(folder)
    except BaseException:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise
    return Path(temporary)


@contextlib.contextmanager
def writing_atomically(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """A file to read and write that becomes `path` when the block ends well, and vanishes when it does not.

    Raises:
        StorageError: the folder cannot be written, or the disk is full.
    """
    temporary = stage(path.parent, b"", mode=mode)
    try:
        with _storage_errors(path.parent), temporary.open("w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        publish(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def stage_copy(source: Path, folder: Path, *, mode: int = 0o644) -> Path:
    """Copy a file of any size, in pieces, under a hidden temporary name in `folder`; call `sync` before `publish`.

    Raises:
        ImageError: the source cannot be read.
        StorageError: the folder cannot be written.
    """
    try:
        if not source.is_file():
            raise ImageError(f"{source} is missing or no regular file", hint="name a readable file")
        opened = source.open("rb")
    except OSError as error:
        raise ImageError(f"cannot read {source}: {error.strerror or error}", hint="name a readable file") from error
    with opened:
        staged = stage(folder, b"", mode=mode)
        try:
            with _storage_errors(folder), staged.open("wb") as copy:
                shutil.copyfileobj(opened, copy, 1 << 20)
        except BaseException:
            staged.unlink(missing_ok=True)
            raise
    return staged


def sync(file: BinaryIO) -> None:
    """Make what was written to an open file durable.

    Raises:
        StorageError: the disk is full or fails.
    """
    with _storage_errors(Path(file.name).parent):
        file.flush()
        os.fsync(file.fileno())


def publish(temporary: Path, path: Path) -> None:
    """Give a staged file its final name, durably.

    Raises:
        StorageError: it did not get the name; or it did, and the disk cannot say that it will keep it.
    """
    try:
        os.replace(temporary, path)
    except OSError as error:
        raise StorageError(f"cannot create {path}: {error.strerror or error}", hint="choose another file") from error
    sync_folder(path.parent)


def create_once(path: Path, make: Callable[[], bytes], *, mode: int = 0o600) -> None:
    """Create a file unless it exists; of several processes that try at once, one wins and all find its file.

    Raises:
        StorageError: it cannot be created.
    """
    if path.exists():
        return
    staged = stage(path.parent, make(), mode=mode)
    try:
        # A link, unlike a rename, never replaces what another process made a moment ago.
        with contextlib.suppress(FileExistsError):
            os.link(staged, path)
    except OSError as error:
        raise StorageError(f"cannot create {path}: {error.strerror or error}", hint="choose another folder") from error
    finally:
        staged.unlink()
    sync_folder(path.parent)


def publish_folder(staged: Path, target: Path) -> bool:
    """Give a staged folder its final name, unless another process was first: its folder is kept.

    Returns:
        True when `staged` is now `target`.

    Raises:
        StorageError: neither happened.
    """
    try:
        os.rename(staged, target)
    except OSError as error:
        if target.exists():
            return False
        raise StorageError(
            f"cannot create {target}: {error.strerror or error}", hint="choose another folder"
        ) from error
    return True


def create_folder(target: Path, what: str, fill: Callable[[Path], None]) -> bool:
    """Make a folder whose files appear all at once, unless another process is first: its folder is kept.

    Args:
        what: it holds, for the error.
        fill: writes the files into the folder that it is given.

    Returns:
        True when this call made it.

    Raises:
        StorageError: the folder above cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(dir=target.parent, prefix=STAGED_PREFIX))
    except OSError as error:
        raise StorageError(
            f"cannot create {what} in {target.parent}: {error.strerror or error}",
            hint="check that the folder is writable",
        ) from error
    try:
        fill(staged)
        made = publish_folder(staged, target)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    sync_folder(target.parent)
    return made


def clear_abandoned(folder: Path, older_than: float, *, keep: Collection[Path] = ()) -> None:
    """Remove staged files that a dead process left in `folder`.

    Args:
        older_than: age in seconds; a younger file may belong to a process that is still at work.
        keep: absolute paths of staged files that somebody still answers for.
    """
    latest = time.time() - older_than
    for path in folder.glob(f"{STAGED_PREFIX}*"):
        with contextlib.suppress(OSError):
            if path.absolute() not in keep and path.stat().st_mtime < latest:
                path.unlink()


def check_writable(folder: Path) -> None:
    """Create `folder` if need be and prove that a file can be made in it.

    Raises:
        StorageError: it cannot.
    """
    stage(folder, b"").unlink()


@contextlib.contextmanager
def locked(descriptor: int) -> Iterator[None]:
    """Hold the advisory lock of an open file; other processes wait their turn in a queue, without polling."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def try_lock(path: Path) -> int | None:
    """Hold the advisory lock of a file, made if need be, until the descriptor is closed or the process ends.

    Returns:
        The descriptor; None while somebody else holds the lock.

    Raises:
        StorageError: the file cannot be made.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(f"cannot create {path}: {error.strerror or error}", hint="choose another folder") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable.

    Raises:
        StorageError: the disk cannot say that it will keep them.
    """
    with _storage_errors(folder):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _storage_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write in {folder}: {error.strerror or error}",
            hint="check that the folder is writable and has room",
        ) from error
