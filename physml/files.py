"""Files that are written whole or not at all.

Whoever writes holds a lock on the unfinished file, so that one which nobody holds was left by a
process that was killed, and can go.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = ["located", "write"]

_OLD = 3600.0  # seconds after which an unfinished file is left over where there are no locks


def located(path: str | os.PathLike) -> Path:
    """Return `path` with ``~`` expanded, as a shell would.

    Raises
    ------
    ValueError
        If it names a user whose home folder is not known.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"path={os.fspath(path)!r} begins with the home folder of a user who is "
                         "not known: write the folder out") from error


def write(path: str | os.PathLike, pieces: Iterable[bytes]) -> None:
    """Write `pieces` one after another to `path`, in the place of what was there before.

    An interruption leaves the old file, or none. The file has the permissions of an older one of
    the same user, or else those that the umask leaves; of a link the target is replaced; folders
    are made as needed. What a killed process left of its own write to this name is removed.

    Parameters
    ----------
    path
        Where to; ``~`` is the home folder.
    pieces
        Bytes, or anything with a buffer of bytes.

    Raises
    ------
    OSError
        If the file cannot be written, or something is there that is no file.
    """
    target = _target(located(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    _clear(target)
    with _unfinished(target) as (part, stream):
        for piece in pieces:
            stream.write(piece)
        stream.flush()
        os.fsync(stream.fileno())
        with contextlib.suppress(FileNotFoundError):
            there = target.stat()
            if hasattr(os, "getuid") and there.st_uid == os.getuid():
                os.fchmod(stream.fileno(), stat.S_IMODE(there.st_mode))
        if fcntl is None:  # Windows moves no open file
            stream.close()
        os.replace(part, target)  # before the lock is gone: nobody takes it for left over


def _target(path: Path) -> Path:
    """Return where the links lead; raise `OSError` if that is no place for a file."""
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "Not a regular file", os.fspath(path))
    return target


@contextlib.contextmanager
def _unfinished(target: Path) -> Iterator[tuple]:
    """Yield the name and the stream of a new, locked file beside `target`; remove it at the end."""
    while True:
        part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        stream = open(descriptor, "wb")
        try:
            _lock(descriptor)
            # another process may have taken it for left over before it was locked
            if os.fstat(descriptor).st_nlink or fcntl is None:
                yield part, stream
                return
        finally:
            with contextlib.suppress(OSError):
                part.unlink()
            stream.close()


def _lock(descriptor: int) -> bool | None:
    """Lock an open file; return whether it is ours now, or None where there are no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True


def _clear(target: Path) -> None:
    """Remove unfinished files of `target` that no process writes to any more."""
    with os.scandir(target.parent) as entries:
        old = [entry for entry in entries if entry.name.startswith(f".{target.name}.")
               and entry.name.endswith(".part") and entry.is_file(follow_symlinks=False)]
    for entry in old:
        with contextlib.suppress(OSError):
            descriptor = os.open(entry.path, os.O_RDWR)
            try:
                free = _lock(descriptor)
                if free is None:
                    free = time.time() - entry.stat().st_mtime > _OLD
                if free:
                    os.unlink(entry.path)
            finally:
                os.close(descriptor)
