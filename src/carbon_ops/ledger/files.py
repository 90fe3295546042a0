"""The files of a ledger: read whole, replaced whole, never changed in place.

A file appears under its name only after its bytes are on the disk: temporary file,
``fsync``, ``os.replace``, ``fsync`` of the directory. Every call works relative to the
directory's descriptor, so a directory that is moved or swapped for a symbolic link under
a running writer cannot lead it elsewhere, and one that is deleted gives an error.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import NamedTuple

from carbon_ops.errors import LedgerError

LOCK = "LOCK"
ACTIVE = "active.jsonl"
CHECKPOINT = "checkpoint"
FRONTIER = "frontier"
MAX_FILE_BYTES = 1 << 28  # 256 MiB: 4,096 records of the longest kind

Buffer = bytes | bytearray

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class SyncFailedError(OSError):
    """The new file stands under its name, but the disk did not confirm it."""


class Identity(NamedTuple):
    """What tells one state of a file from another.

    Writers make the active file longer each time, until its segment is sealed under
    another name, so a number that an inode inherits from a deleted one misleads nobody.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int


def segment_name(first: int) -> str:
    """Return the name of the sealed segment that begins with record ``first``."""
    return f"seg-{first:020d}.jsonl"


def tree_name(first: int) -> str:
    """Return the name of the file of subtree hashes that begins with ``first``."""
    return f"tree-{first:020d}"


def segment_start(name: str) -> int | None:
    """Return the first record's number in a segment of this name; None for others."""
    digits = name[4:24]
    if name == f"seg-{digits}.jsonl" and len(digits) == 20 and digits.isdecimal():
        return int(digits) if digits.isascii() else None
    return None


def close_quietly(descriptor: int) -> None:
    """Close a file whose bytes are on the disk already, or were only read."""
    with contextlib.suppress(OSError):
        os.close(descriptor)


def _identity(state: os.stat_result) -> Identity:
    return Identity(state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)


class Directory:
    """A ledger's directory, open."""

    def __init__(self, path: str) -> None:
        """Open the directory at ``path``.

        Raises:
            LedgerError: nothing there, a file, a symbolic link, or no permission.
        """
        self.path = path
        self.descriptor = -1
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self.descriptor = os.open(path, flags)
            state = os.fstat(self.descriptor)
        except FileNotFoundError:
            raise LedgerError(
                f"no ledger at {path}",
                hint="`carbon-ops ledger init` makes one.",
            ) from None
        except OSError as error:
            self.close()
            raise _not_a_directory(path, error) from error
        # Root writing into somebody's ledger leaves the files to that somebody.
        foreign = os.geteuid() == 0 and state.st_uid != 0
        self._owner = (state.st_uid, state.st_gid) if foreign else None

    def reopen(self) -> None:
        """Get a descriptor of our own after a fork: a lock belongs to a descriptor."""
        inherited = self.descriptor
        self.descriptor = os.open(
            ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=inherited
        )
        close_quietly(inherited)

    def close(self) -> None:
        if self.descriptor >= 0:
            close_quietly(self.descriptor)
            self.descriptor = -1

    def make_folder(self, name: str) -> None:
        """Make a folder inside, for the same users, where there is none."""
        here = self.descriptor
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, stat.S_IMODE(os.fstat(here).st_mode), dir_fd=here)
            if self._owner is not None:
                os.chown(name, *self._owner, dir_fd=here, follow_symlinks=False)

    def names(self) -> list[str]:
        return os.listdir(self.descriptor)

    def state(self, name: str) -> os.stat_result | None:
        """Return the file's status, a link's own; None where nothing has the name."""
        try:
            return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def unchanged(self, name: str, seen: Identity | None) -> bool:
        """Say whether ``name`` is in the state that was ``seen``; None: it was missing."""
        state = self.state(name)
        return (None if state is None else _identity(state)) == seen

    def read(self, name: str, limit: int = MAX_FILE_BYTES) -> bytes | None:
        """Return the file's bytes; None where nothing has the name.

        Raises:
            LedgerError: a symbolic link, not a regular file, or more than ``limit``.
        """
        found = self.look(name, limit)
        return found and found[0]

    def look(
        self, name: str, limit: int = MAX_FILE_BYTES
    ) -> tuple[bytes, Identity] | None:
        """Return the file's bytes and identity; see :meth:`read`."""
        try:
            descriptor = os.open(name, _READ, dir_fd=self.descriptor)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise LedgerError(
                f"cannot read {name} of the ledger {self.path}: {error.strerror}",
                hint="Files of a ledger are never symbolic links.",
            ) from error
        try:
            state = os.fstat(descriptor)
            self._check_file(name, state, limit)
            data = os.read(descriptor, state.st_size + 1)
            while len(data) < state.st_size:
                more = os.read(descriptor, state.st_size - len(data))
                if not more:
                    break
                data += more
        finally:
            close_quietly(descriptor)
        return data, _identity(state)

    def replace(self, name: str, *parts: Buffer) -> Identity:
        """Give ``name`` these bytes, durably, or leave everything as it was.

        Raises:
            SyncFailedError: the file was replaced, the directory's ``fsync`` failed.
            OSError: anything before; the old file stands, the temporary one is gone.
        """
        made = self.prepare(name, *parts)
        self.put_in_place(name)
        self.sync()
        return made

    def prepare(self, name: str, *parts: Buffer) -> Identity:
        """Write these bytes, durably, to a file that :meth:`put_in_place` renames.

        In parts, because to join those of a large file takes longer than a system call.

        Raises:
            OSError: the temporary file is gone.
        """
        temporary = self._temporary(name)
        descriptor = self._create(temporary)
        try:
            if self._owner is not None:
                os.fchown(descriptor, *self._owner)
            for part in parts:
                with memoryview(part) as view:
                    at = 0
                    while at < len(view):  # a full disk shows as a short write first
                        at += os.write(descriptor, view[at:])
            os.fsync(descriptor)
            return _identity(os.fstat(descriptor))
        except BaseException:
            self.discard(name)
            raise
        finally:
            close_quietly(descriptor)

    def put_in_place(self, name: str) -> None:
        """Rename what was prepared to ``name``; durable after :meth:`sync`."""
        here = self.descriptor
        try:
            os.replace(self._temporary(name), name, src_dir_fd=here, dst_dir_fd=here)
        except BaseException:
            self.discard(name)
            raise

    def discard(self, name: str) -> None:
        """Remove what was prepared for ``name``."""
        self.remove(self._temporary(name))

    def remove(self, name: str) -> None:
        """Remove a file that nobody needs; fine if it is not there, or stays."""
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=self.descriptor)

    @staticmethod
    def _temporary(name: str) -> str:
        return f"{name}.tmp.{os.getpid()}"

    def seal(self, first: int) -> None:
        """Rename the full active file to its segment's name, read-only and durable.

        Raises:
            FileExistsError: a segment of that name is there already.
            SyncFailedError: renamed, but the directory's ``fsync`` failed.
            OSError: nothing was renamed.
        """
        name = segment_name(first)
        if self.state(name) is not None:
            raise FileExistsError(17, f"{name} exists beside a full {ACTIVE}")
        here = self.descriptor
        descriptor = os.open(ACTIVE, _READ, dir_fd=here)
        try:
            with contextlib.suppress(PermissionError):  # of another user: mode stays
                os.fchmod(descriptor, 0o444)
        finally:
            close_quietly(descriptor)
        os.rename(ACTIVE, name, src_dir_fd=here, dst_dir_fd=here)
        self.sync()

    def sync(self) -> None:
        """Make the directory's entries durable."""
        try:
            os.fsync(self.descriptor)
        except OSError as error:
            raise SyncFailedError(error.errno, error.strerror) from error

    def remove_stale(self) -> None:
        """Remove temporary files of processes that are gone. Call it under the lock."""
        for name in self.names():
            _, mark, owner = name.rpartition(".tmp.")
            if not mark or not owner.isdecimal() or not _gone(int(owner)):
                continue
            self.remove(name)

    def _check_file(self, name: str, state: os.stat_result, limit: int) -> None:
        if not stat.S_ISREG(state.st_mode):
            raise LedgerError(f"{name} of the ledger {self.path} is no plain file")
        if state.st_size > limit:
            raise LedgerError(
                f"{name} of the ledger {self.path} holds {state.st_size} bytes, "
                f"more than {limit}"
            )

    def _create(self, temporary: str) -> int:
        try:
            return os.open(temporary, _CREATE, 0o640, dir_fd=self.descriptor)
        except FileExistsError:  # left by a dead process that had our number
            os.unlink(temporary, dir_fd=self.descriptor)
            return os.open(temporary, _CREATE, 0o640, dir_fd=self.descriptor)


def _gone(process: int) -> bool:
    if process == os.getpid():
        return True  # under the lock nobody is writing, this process included
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False


def _not_a_directory(path: str, error: OSError) -> LedgerError:
    if os.path.islink(path):
        return LedgerError(
            f"{path} is a symbolic link; a ledger is opened by its own path",
            hint=f"Give {os.path.realpath(path)} instead.",
        )
    if os.path.exists(path) and not os.path.isdir(path):
        return LedgerError(
            f"{path} is a file; a ledger is a directory",
            hint="A plain chain of JSON lines can be verified, but not appended to.",
        )
    return LedgerError(f"cannot open the ledger {path}: {error.strerror}")
