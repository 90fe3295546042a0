"""Who may talk to the governor, and what the governor itself may still do.

Makes the socket (path, group, mode), recognises one handed over by the service manager,
answers the manager, and drops the capabilities that only opening the counters needed.

Sources: ``sd_listen_fds(3)``, ``sd_notify(3)``, ``unix(7)``, ``capset(2)``, ``prctl(2)``.
"""

from __future__ import annotations

import _socket  # its front, with selectors, would be a tenth of the memory
import fcntl
import os
import stat
from contextlib import closing, contextmanager
from sys import byteorder
from time import monotonic, sleep
from typing import NamedTuple

from carbon_ops.errors import CarbonOpsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_GROUP = "carbon-users"
SOCKET_MODE = 0o660
_BACKLOG = 1_024  # a flood fills a short queue, and honest clients find no place
_LISTEN_FDS_START = 3  # sd_listen_fds(3)
_PROBE_TIMEOUT_S = 1.0
_LOCK_TIMEOUT_S = 2.0


class AccessError(CarbonOpsError):
    """The socket cannot be made; nothing that was there before has been touched."""


class Listener(NamedTuple):
    """A listening socket and how to take it away again."""

    socket: _socket.socket
    path: str
    inode: tuple[int, int] | None  # None: the service manager's, not ours to remove

    def close(self) -> None:
        """Close; remove the file if it is still the one that was made here."""
        self.socket.close()
        if self.inode is None:
            return
        with _folder_of(self.path):
            try:
                found = os.lstat(self.path)
                if (found.st_dev, found.st_ino) == self.inode:
                    os.unlink(self.path)
            except OSError:  # gone, or no longer ours to remove: both fine
                pass


def listen(path: str, group: str | None) -> Listener:
    """Return a listening socket: the manager's if it passed one, else a new ``path``.

    ``group`` is a name or number; None means this process's own.

    Raises:
        AccessError: the path is taken, too long or not writable; the group is missing.
    """
    handed = _from_manager()
    if handed is not None:
        return handed
    gid = group_id(group)
    with _folder_of(path):
        _make_room(path)
        return _made(path, gid)


@contextmanager
def _folder_of(path: str) -> Iterator[None]:
    """Hold the lock on the folder of ``path``, where it has one.

    Of two governors that start at once the second would take the socket that the first
    has made, but does not listen on yet, for a stale one. Whoever can read the folder
    can keep its lock: that is not waited for longer than a governor needs.
    """
    try:
        folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        until = monotonic() + _LOCK_TIMEOUT_S
        while monotonic() < until:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                sleep(0.01)
            except OSError:  # a file system without locks
                break
        yield
    finally:
        os.close(folder)


def _made(path: str, gid: int | None) -> Listener:
    """Return a listening socket at ``path``, where nothing is. Raises AccessError."""
    server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    made = None
    try:
        # Nobody but the owner may connect until the group is set.
        before = os.umask(0o777 & ~0o600)
        try:
            server.bind(path)
        finally:
            os.umask(before)
        there = os.lstat(path)
        made = Listener(server, path, (there.st_dev, there.st_ino))
        _admit(path, gid)
        server.listen(_BACKLOG)
        server.setblocking(False)
    except OSError as error:
        (made or server).close()
        raise AccessError(
            f"cannot make the socket {path}: {error.strerror or error}",
            hint="Choose a writable place with --socket (at most 107 bytes), or run "
            "the governor as root.",
        ) from error
    return made


def _admit(path: str, gid: int | None) -> None:
    """Set group and mode of the new socket at ``path``.

    Whoever owns the folder may put a link in the socket's place: what is held here is
    looked at before it is changed. Raises OSError.
    """
    held = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    try:
        found = os.fstat(held)
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
            raise OSError("it was replaced meanwhile; its folder is not safe")
        itself = f"/proc/self/fd/{held}"  # fchmod(2) refuses O_PATH, this does not
        if gid is not None:
            os.chown(itself, -1, gid)
        os.chmod(itself, SOCKET_MODE)
    finally:
        os.close(held)


def group_id(group: str | None) -> int | None:
    """Return the number of ``group``; None stays None, the own group.

    Raises:
        AccessError: there is no such group.
    """
    if group is None:
        return None
    if group.isascii() and group.isdigit():
        return int(group)
    import grp

    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise AccessError(
            f"there is no group {group!r}",
            hint=f"Create it with `groupadd --system {group}`, add the users who may "
            f"read energy with `usermod -aG {group} USER`, or name another group (or "
            "its number) with --socket-group.",
        ) from None


def _make_room(path: str) -> None:
    """Remove a socket that nobody listens on; leave anything else alone.

    Raises:
        AccessError: something else is there.
    """
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise AccessError(
            f"cannot look at {path}: {error.strerror}",
            hint="Choose another place with --socket.",
        ) from error
    if not stat.S_ISSOCK(there.st_mode):
        raise AccessError(
            f"{path} exists and is not a socket; it was left alone",
            hint="Move it away or choose another place with --socket.",
        )
    with closing(_socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)) as probe:
        probe.settimeout(_PROBE_TIMEOUT_S)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            pass  # stale: its owner is gone
        except FileNotFoundError:
            return
        except OSError as error:
            raise AccessError(
                f"cannot tell whether {path} is in use: {error.strerror or error}",
                hint="Stop its owner or choose another place with --socket.",
            ) from error
        else:
            raise AccessError(
                f"another process is listening on {path}",
                hint="Stop it first (`systemctl stop carbon-governor.socket "
                "carbon-governor.service`) or choose another place with --socket.",
            )
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise AccessError(
            f"cannot remove the stale socket {path}: {error.strerror}",
            hint="Remove it, or choose another place with --socket.",
        ) from error


def _from_manager() -> Listener | None:
    """Return the socket that systemd passed to this very process, if it did."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    count = os.environ.get("LISTEN_FDS", "")
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    if count != "1":
        raise AccessError(
            f"the service manager passed {count or 'no'} sockets instead of one",
            hint="Give the socket unit exactly one ListenStream=.",
        )
    os.set_inheritable(_LISTEN_FDS_START, False)
    server = _socket.socket(fileno=_LISTEN_FDS_START)
    if (
        server.family != _socket.AF_UNIX
        or server.type != _socket.SOCK_STREAM
        or not server.getsockopt(_socket.SOL_SOCKET, _socket.SO_ACCEPTCONN)
    ):
        server.close()
        raise AccessError(
            "the service manager passed something else than a listening Unix socket",
            hint="Use ListenStream= with a path in the socket unit.",
        )
    server.setblocking(False)
    return Listener(server, str(server.getsockname()), None)


# --- the service manager ------------------------------------------------------------


def is_managed() -> bool:
    """Return whether a service manager waits for messages, and will start us again."""
    return bool(os.environ.get("NOTIFY_SOCKET"))


def notify(state: str) -> None:
    """Tell the service manager ``state`` ("READY=1"); nothing if there is none.

    A manager that does not listen is no reason to stop serving.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with closing(_socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)) as channel:
        channel.setblocking(False)
        try:
            channel.sendto(state.encode(), address)
        except OSError:
            return


def watchdog_interval_ns() -> int | None:
    """Return half of the time [ns] in which the manager wants a sign of life, or None."""
    usec = os.environ.get("WATCHDOG_USEC", "")
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    if not (usec.isascii() and usec.isdigit()) or int(usec) == 0:
        return None
    return int(usec) * 1_000 // 2


# --- peers --------------------------------------------------------------------------


def peer_uid(connection: _socket.socket, overflow: int | None) -> int | None:
    """Return the user at the other end; None if this namespace cannot name them.

    A user without a mapping here shows as the overflow uid, which then stands for
    many different users: ``user_namespaces(7)``.
    """
    raw = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    uid = int.from_bytes(raw[4:8], byteorder)
    return None if uid == overflow else uid


# --- privileges ---------------------------------------------------------------------

_PR_SET_NO_NEW_PRIVS = 38
_CAP_VERSION_3 = 0x20080522


def drop_capabilities() -> bool:
    """Give up every capability, for good; return whether the kernel agreed.

    Kept descriptors stay readable: sysfs and the msr driver check at open. A root
    process stays the owner of root's files, which is enough to remove the socket.
    What start-up left unused goes back to the kernel on the way, most of a megabyte.
    """
    try:
        import ctypes

        libc = ctypes.CDLL(None)
    except (ImportError, OSError, MemoryError):  # MemoryError: no executable memory
        return False
    if hasattr(libc, "malloc_trim"):  # glibc
        libc.malloc_trim(0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAP_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    return bool(libc.capset(header, data) == 0)
