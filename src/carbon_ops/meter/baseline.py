"""The power of the idle host, measured once by ``carbon-ops calibrate`` and kept.

Valid for the host, kernel and source it was measured with, and for no other: on a home
directory that several hosts share, each finds its own.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from carbon_ops.config import user_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

FILE = "idle.json"
MAX_BYTES = 64 * 1024


class Idle(NamedTuple):
    """One calibration."""

    host: str
    kernel: str
    source: str
    date: str  # RFC 3339
    seconds: float
    cpu_w: float  # of all packages together
    dram_w: float | None
    cpu_u_w: float  # standard uncertainty of cpu_w (k=1): scatter of the slices
    busy_percent: float  # of all CPUs, meanwhile


def path(environ: Mapping[str, str] | None = None) -> str:
    """Return where calibrations are kept."""
    return os.path.join(
        os.path.dirname(user_file(os.environ if environ is None else environ)), FILE
    )


def stored(environ: Mapping[str, str] | None = None) -> list[Idle]:
    """Return the calibrations that hold for this host and kernel, newest first.

    A file that cannot be read or understood holds none.
    """
    try:
        fd = os.open(path(environ), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return []
    try:
        raw = os.read(fd, MAX_BYTES)
    except OSError:
        return []
    finally:
        os.close(fd)
    system = os.uname()
    return [
        idle
        for idle in decode(raw)
        if (idle.host, idle.kernel) == (system.nodename, system.release)
    ]


def decode(raw: bytes) -> list[Idle]:
    """Return the calibrations in the bytes of a file, newest first; bad ones left out."""
    import json

    try:
        entries = json.loads(raw)["calibrations"]
        found = [Idle(**entry) for entry in entries if _makes_sense(entry)]
    except (ValueError, TypeError, KeyError, RecursionError):
        return []
    return sorted(found, key=lambda idle: idle.date, reverse=True)


def _makes_sense(entry: object) -> bool:
    if not isinstance(entry, dict) or set(entry) != set(Idle._fields):
        return False
    texts = [entry[name] for name in Idle._fields[:4]]
    numbers = [entry[name] for name in Idle._fields[4:] if name != "dram_w"]
    if entry["dram_w"] is not None:
        numbers.append(entry["dram_w"])
    return all(isinstance(text, str) for text in texts) and all(
        isinstance(number, (int, float)) and 0 <= number < 1e6 for number in numbers
    )


def save(idle: Idle, environ: Mapping[str, str] | None = None) -> str:
    """Keep ``idle``, in place of an older one of the same host and source.

    Returns:
        The file.

    Raises:
        OSError: it cannot be written; the old file stands.
    """
    import json

    file = path(environ)
    old: list[Idle] = []
    try:
        with open(file, "rb") as opened:
            old = decode(opened.read(MAX_BYTES))
    except FileNotFoundError:
        os.makedirs(os.path.dirname(file), mode=0o700, exist_ok=True)
    kept = [one for one in old if (one.host, one.source) != (idle.host, idle.source)]
    text = json.dumps(
        {"calibrations": [one._asdict() for one in (idle, *kept)]}, indent=1
    )
    temporary = f"{file}.{os.getpid()}"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(fd, "w", encoding="utf-8") as opened_new:
            opened_new.write(text + "\n")
            opened_new.flush()
            os.fsync(opened_new.fileno())
        os.replace(temporary, file)
    except OSError:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
    return file
