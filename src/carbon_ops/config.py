"""Settings from the environment and from files.

The first place that has a value wins: the argument in the code or on the command line;
``CARBON_OPS_*`` in the environment; ``./carbon-ops.toml``; ``carbon-ops/config.toml`` in
``$XDG_CONFIG_HOME`` or ``~/.config``; the default. A key that nobody knows is an error
that names the nearest one. Where there is no file, nothing is imported to read it.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from carbon_ops.errors import ConfigError
from carbon_ops.model import DEFAULT_SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Value = str | int | float | None

PREFIX = "CARBON_OPS_"
LOCAL_FILE = "carbon-ops.toml"
MAX_BYTES = 64 * 1024  # a settings file that is larger is not one


class Key(NamedTuple):
    """One setting."""

    kind: type[str] | type[int] | type[float]
    default: Value
    help: str
    choices: tuple[str, ...] = ()


KEYS: dict[str, Key] = {
    "socket": Key(str, DEFAULT_SOCKET, "path of the governor's socket"),
    "region": Key(str, None, "zone of the electricity grid, such as DE"),
    "ledger": Key(str, None, "folder of the ledger that spans are written to"),
    "policy": Key(
        str,
        "proportional",
        "who carries the host's idle energy",
        ("proportional", "excluded"),
    ),
    "scope": Key(str, "tree", "whose CPU time counts"),
    "model": Key(str, "on", "model energy without counters", ("on", "off")),
    "idle_w": Key(float, None, "measured power of the idle packages [W]"),
    "idle_dram_w": Key(float, None, "measured power of the idle memory [W]"),
    "cpu_idle_w": Key(float, None, "for the model: all CPUs at rest [W]"),
    "cpu_load_w": Key(float, None, "for the model: all CPUs at full load [W]"),
    "powercap_root": Key(str, "/sys/class/powercap", "where powercap zones are"),
    "history": Key(int, 256, "metrics kept in memory"),
}


# Variables that are no settings: secrets, read where they are used.
SECRETS = ("ledger_key", "electricitymaps_key", "watttime_user", "watttime_password")


class Setting(NamedTuple):
    """A value and where it came from."""

    value: Value
    origin: (
        str  # "default", "CARBON_OPS_REGION", "/home/me/carbon-ops.toml", "argument"
    )


def user_file(environ: Mapping[str, str]) -> str:
    """Return the path of the user's own settings, whether it exists or not."""
    base = environ.get("XDG_CONFIG_HOME") or os.path.join(
        environ.get("HOME") or os.path.expanduser("~"), ".config"
    )
    return os.path.join(base, "carbon-ops", "config.toml")


def load(
    environ: Mapping[str, str] | None = None, folder: str = "."
) -> dict[str, Setting]:
    """Return every setting with its origin.

    Args:
        environ: Default: the environment of this process.
        folder: Where ``carbon-ops.toml`` is looked for.

    Raises:
        ConfigError: a file cannot be read or is no TOML; a key is unknown; a value has
            the wrong type or is out of range.
    """
    environ = os.environ if environ is None else environ
    found = {name: Setting(key.default, "default") for name, key in KEYS.items()}
    for path in (user_file(environ), os.path.join(folder, LOCAL_FILE)):
        for name, value in _file(path).items():
            if name not in KEYS:
                raise _unknown(name, path)
            found[name] = Setting(_checked(name, value, path), path)
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or not text:
            continue
        name = variable[len(PREFIX) :].lower()
        if name in KEYS:
            found[name] = Setting(_checked(name, text, variable), variable)
        # Others may be anybody's: Kubernetes makes CARBON_OPS_PORT for a service.
        elif name not in SECRETS and _nearest(name, 0.8, (*KEYS, *SECRETS)):
            raise _unknown(variable, "the environment", (*KEYS, *SECRETS))
    return found


def chosen(name: str, argument: str | None) -> str | None:
    """Return ``argument``, or what the settings say where it is ``None`` or empty.

    Raises:
        ConfigError: see :func:`load`.
    """
    value = argument or load()[name].value
    return None if value is None else str(value)


def _file(path: str) -> dict[str, object]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        # A service that gave up root keeps root's HOME: what is in there is not its own.
        if not os.access(os.path.dirname(path), os.X_OK):
            return {}
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    try:
        raw = os.read(fd, MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    finally:
        os.close(fd)
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_BYTES} bytes")
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        import tomli as tomllib  # type: ignore[import-not-found,no-redef,unused-ignore]
    try:
        table: dict[str, object] = tomllib.loads(raw.decode())
    except (ValueError, RecursionError) as error:  # bad TOML, bad UTF-8, deep nesting
        hint = 'It has to be TOML, with text in quotes: region = "DE".'
        raise ConfigError(f"{path}: {error}", hint=hint) from error
    return table


def _checked(name: str, value: object, origin: str) -> Value:
    key = KEYS[name]
    if key.kind is str:
        if not isinstance(value, str):
            raise ConfigError(f"{origin}: {name} must be text, got {_shown(value)}")
        if not value:
            raise ConfigError(f"{origin}: {name} is empty", hint="Leave it out.")
        if key.choices and value not in key.choices:
            raise ConfigError(
                f"{origin}: {name} is {_shown(value)}",
                hint=f"Use one of: {', '.join(key.choices)}.",
            )
        return value
    number: int | float = -1
    takes = (str, int) if key.kind is int else (str, int, float)
    if isinstance(value, takes) and not isinstance(value, bool):
        from contextlib import suppress

        with suppress(ValueError, OverflowError):  # said below
            number = int(value) if key.kind is int else float(value)
    if not 0 <= number < 1e9:
        whole = "a whole number" if key.kind is int else "a number"
        raise ConfigError(
            f"{origin}: {name} must be {whole}, 0 or more, got {_shown(value)}"
        )
    return number


def _shown(value: object) -> str:
    """Return ``value`` for a message, however long it is."""
    try:
        text = ascii(value)
    except ValueError:  # an integer with more digits than Python prints
        return "a number that is too large"
    return text if len(text) <= 60 else text[:60] + "..."


def _nearest(name: str, likeness: float, known: Iterable[str]) -> str | None:
    from difflib import get_close_matches

    near = get_close_matches(name.lower(), list(known), 1, likeness)
    return near[0] if near else None


def _unknown(name: str, origin: str, known: Iterable[str] = KEYS) -> ConfigError:
    stem = name[len(PREFIX) :].lower() if name.startswith(PREFIX) else name
    near = _nearest(stem, 0.5, known)
    if near is not None and name.startswith(PREFIX):
        near = PREFIX + near.upper()
    return ConfigError(
        f"{origin}: unknown setting {name!r}",
        hint=(
            f"Did you mean {near!r}?"
            if near is not None
            else f"Known settings: {', '.join(KEYS)}."
        ),
    )
