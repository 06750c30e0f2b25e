"""One writer per folder: a second run that would write into the same folder is refused.

The lock is ``flock`` on the file ``.lock`` in the folder, which the kernel lets go of when its
holder ends, however it ends. File systems without ``flock`` (some network mounts) get a file that
names the holder's process in its place; one whose process has ended on this machine is taken over.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import tempfile
import weakref
from pathlib import Path
from types import TracebackType

from sftopt.core.errors import InputError

LOCK_NAME = ".lock"
"""The locked file; it is there only while a run is writing."""
PROCESS_FILE_NAME = ".lock.pid"
"""Stands in for the lock where the file system has no ``flock``."""
_UNSUPPORTED = (
    errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EBADF,
    errno.EPERM,
)  # fmt: skip
"""What file systems answer that cannot lock."""


class FolderLock:
    """The right to write into a folder, held until :meth:`release` or the end of the process.

    A folder that it made and that is empty when it lets go is removed: a run that was refused
    leaves nothing behind.
    """

    def __init__(self, folder: Path) -> None:
        """Make the folder where it is missing, and lock it.

        Raises InputError where another run holds it, or it cannot be written.
        """
        self.folder = folder
        self._process = os.getpid()
        self._descriptor: int | None = None
        self._process_file: Path | None = None
        self._made = [path for path in (folder, *folder.parents) if not path.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock()
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError(f"cannot write folder '{folder}': {reason}") from None
        _HELD.add(self)

    def release(self) -> None:
        """Release the folder for the next writer."""
        _HELD.discard(self)
        if os.getpid() != self._process:
            return  # a forked child: the lock is its parent's
        if self._descriptor is not None:
            # unlinked while it is locked: who waits for this very file sees that it is gone
            (self.folder / LOCK_NAME).unlink(missing_ok=True)
            self.forget()
        if self._process_file is not None:
            self._process_file.unlink(missing_ok=True)
            self._process_file = None
        made, self._made = self._made, []
        with contextlib.suppress(OSError):  # something is in it, or it is gone
            for path in made:
                path.rmdir()

    @property
    def made_folder(self) -> bool:
        """Tell whether the folder was missing before."""
        return bool(self._made)

    def forget(self) -> None:
        """Close the descriptor alone, which in a forked child leaves the parent's lock as it is."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _lock(self) -> None:
        path = self.folder / LOCK_NAME
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(descriptor, 200).decode(errors="replace").strip()
                os.close(descriptor)
                raise self._refusal(holder) from None
            except OSError as error:
                os.close(descriptor)
                if error.errno not in _UNSUPPORTED:
                    raise
                path.unlink(missing_ok=True)
                self._name_process()
                return
            if _is_still(path, descriptor):
                break
            os.close(descriptor)  # its holder removed it just now
        os.ftruncate(descriptor, 0)
        os.write(descriptor, _identity().encode())
        self._descriptor = descriptor

    def _name_process(self) -> None:
        """Make the file that names this process, unless one of a running process is there."""
        path = self.folder / PROCESS_FILE_NAME
        descriptor, own = tempfile.mkstemp(dir=self.folder, prefix=f"{PROCESS_FILE_NAME}.")
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(_identity())
            for _ in range(2):
                try:
                    os.link(own, path)  # whole or not at all, and never over another
                except FileExistsError:
                    self._remove_stale(path)
                else:
                    self._process_file = path
                    return
            raise self._refusal(_read(path))
        finally:
            os.unlink(own)

    def _remove_stale(self, path: Path) -> None:
        """Remove a file whose process has ended. Raises InputError where it may be running."""
        holder = _read(path)
        if holder and _is_running(holder):
            raise self._refusal(holder, f"; where that process has ended, remove '{path}'")
        path.unlink(missing_ok=True)

    def _refusal(self, holder: str, way_out: str = "") -> InputError:
        host, _, process = holder.partition(" ")
        who = f" (process {process.split()[0]} on {host})" if process else ""
        return InputError(
            f"'{self.folder}' is being written by another run{who}; wait for it to end, or name "
            f"another folder{way_out}"
        )


_HELD: weakref.WeakSet[FolderLock] = weakref.WeakSet()
"""Locks of this process; a forked child must not keep them alive."""


def _forget_in_child() -> None:
    for lock in list(_HELD):
        lock.forget()


os.register_at_fork(after_in_child=_forget_in_child)


def _identity() -> str:
    """Host, process and, where the system tells it, when the process began: numbers come again."""
    process = os.getpid()
    return f"{socket.gethostname()} {process} {_began(process)}".strip()


def _is_running(holder: str) -> bool:
    """True where the process may be running: also one of another host, which nobody here sees."""
    parts = holder.split()
    if len(parts) < 2 or parts[0] != socket.gethostname() or not parts[1].isdecimal():
        return True
    process = int(parts[1])
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    began = _began(process)
    return len(parts) < 3 or not began or parts[2] == began


def _began(process: int) -> str:
    """When a process began, in clock ticks since boot; empty where the system does not tell."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


def _is_still(path: Path, descriptor: int) -> bool:
    """True where ``path`` is the file that is open as ``descriptor``."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return ""


__all__ = ["LOCK_NAME", "PROCESS_FILE_NAME", "FolderLock"]
