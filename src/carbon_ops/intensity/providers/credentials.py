"""Keys of providers, from the environment or from a file that only its owner can read.

The file is ``credentials`` in the user's configuration folder, lines of ``NAME=value``
with the names of the environment variables. A file that others may read is refused.
"""

from __future__ import annotations

import os
import stat

from carbon_ops.config import user_file
from carbon_ops.errors import ConfigError
from carbon_ops.http import Secret

MOST_BYTES = 64 * 1024


def path() -> str:
    """Return where the file is looked for."""
    return os.path.join(os.path.dirname(user_file(os.environ)), "credentials")


def secret(name: str) -> Secret:
    """Return the key ``name``.

    Raises:
        ConfigError: it is nowhere, or the file's mode lets others read it.
    """
    value = os.environ.get(name) or _from_file(name)
    if not value:
        raise ConfigError(
            f"{name} is not set",
            hint=f"Set it in the environment, or as {name}=... in {path()} (mode 0600).",
        )
    if not value.isascii() or not value.isprintable():
        raise ConfigError(f"{name} holds characters that no key has")
    return Secret(value)


def _from_file(name: str) -> str | None:
    try:
        descriptor = os.open(path(), os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(f"cannot read {path()}: {error.strerror}") from error
    with open(descriptor, encoding="utf-8", errors="replace") as file:
        about = os.fstat(descriptor)
        mode = stat.S_IMODE(about.st_mode)
        if about.st_uid not in (os.geteuid(), 0) or mode & 0o077:
            raise ConfigError(
                f"{path()} can be read by others (mode {mode:04o})",
                hint=f"chmod 600 {path()}",
            )
        for line in file.read(MOST_BYTES).splitlines():
            key, found, value = line.partition("=")
            if found and key.strip() == name:
                return value.strip()
    return None
