"""Who is at the other end of a socket, as far as this user namespace can tell."""

from __future__ import annotations

from _socket import SO_PEERCRED, SOL_SOCKET, socket
from sys import byteorder

UNKNOWN_UID = -1  # of somebody without a number in this namespace


def creator_uid(connection: socket) -> int:
    """Return the uid that created the socket, -1 where it has no number here.

    In a user namespace every unmapped user shows as the one overflow uid, which must
    not be taken for the user who really has that number: ``user_namespaces(7)``.
    """
    raw = connection.getsockopt(SOL_SOCKET, SO_PEERCRED, 12)
    uid = int.from_bytes(raw[4:8], byteorder)
    return UNKNOWN_UID if uid != 0 and uid == overflow_uid() else uid


def overflow_uid() -> int | None:
    """Return the uid that hides others here; None where every uid has a mapping."""
    try:
        with open("/proc/self/uid_map", "rb") as file:
            if file.read().split() == [b"0", b"0", b"4294967295"]:
                return None
        with open("/proc/sys/kernel/overflowuid", "rb") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 65_534  # the kernel's default
