"""Where the private keys of ledgers lie: outside the ledger, readable by their owner alone.

A ledger is copied, mailed and published; its key must not travel with it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from carbon_ops.errors import LedgerError
from carbon_ops.ledger.note import NoteError, Signer

ENV = "CARBON_OPS_LEDGER_KEY"
_MAX_BYTES = 4_096


class KeyFileError(LedgerError):
    """A key file is missing, readable by others, or already there."""


def key_path(origin: str) -> Path:
    """Return where the key of ``origin`` lies by default.

    ``$XDG_CONFIG_HOME/carbon-ops/keys`` (``~/.config`` where that is unset), the origin
    with ``/`` written as ``_``. The environment variable CARBON_OPS_LEDGER_KEY names
    another file.
    """
    named = os.environ.get(ENV)
    if named:
        return Path(named)
    base = os.environ.get("XDG_CONFIG_HOME", "")
    home = Path(base) if os.path.isabs(base) else Path.home() / ".config"
    return home / "carbon-ops" / "keys" / (origin.replace("/", "_") + ".key")


def save(signer: Signer, path: Path) -> None:
    """Write a new key file with mode 0600; never over another file.

    Raises:
        KeyFileError: the file exists or cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError:
        raise KeyFileError(
            f"{path} exists already",
            hint="Name another file with --key-file; a key is never overwritten.",
        ) from None
    except OSError as error:
        raise KeyFileError(f"cannot write {path}: {error.strerror}") from error
    with open(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o600)
        file.write(signer.text() + "\n")
        file.flush()
        os.fsync(descriptor)


def successor(path: Path) -> Path:
    """Return where the key lies that is to follow the one in ``path``.

    A link is followed: a key that is reached by one is replaced in its own folder.
    """
    path = Path(os.path.realpath(path))
    return path.with_name(path.name + ".next")


def install(path: Path) -> Path:
    """Put the key that waits in :func:`successor` into ``path``, durably.

    At every moment ``path`` holds the old key or the new one.

    Returns:
        Where the old key lies now: beside it, with ``.retired-`` and its id.

    Raises:
        KeyFileError: a folder that cannot be written, or a key that cannot be read.
    """
    waiting, path = successor(path), Path(os.path.realpath(path))
    kept = path.with_name(f"{path.name}.retired-{load(path).key.id.hex()}")
    try:
        with contextlib.suppress(FileExistsError):
            os.link(path, kept)
        os.replace(waiting, path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise KeyFileError(
            f"cannot put the key {waiting} into {path}: {error.strerror}",
            hint="It is in force all the same: mend this and run `ledger rotate-key` "
            "again.",
        ) from error
    return kept


def candidates(path: Path) -> Iterator[Signer]:
    """Yield the keys that may be in force where ``path`` is looked at for one.

    The second is one that :func:`install` was kept from putting in its place.
    """
    for place in (path, successor(path)):
        with contextlib.suppress(KeyFileError):
            yield load(place)


def load(path: Path) -> Signer:
    """Read a key file.

    Raises:
        KeyFileError: missing, unreadable, readable by others than its owner, or no key.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise KeyFileError(
            f"cannot read the key {path}: {error.strerror}",
            hint=f"`ledger init` makes one; --key-file or {ENV} names another place.",
        ) from error
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise KeyFileError(f"{path} is no regular file")
        if state.st_mode & 0o077:
            raise KeyFileError(
                f"{path} can be read by others (mode {stat.S_IMODE(state.st_mode):o})",
                hint=f"chmod 600 {path}; if others have read it, rotate the key.",
            )
        text = os.read(descriptor, _MAX_BYTES)
    finally:
        os.close(descriptor)
    try:
        return Signer.parse(text.decode("utf-8"))
    except (NoteError, UnicodeDecodeError) as error:
        raise KeyFileError(f"{path} holds no usable key: {error}") from None
