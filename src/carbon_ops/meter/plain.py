"""What callers put into a record, as plain JSON. Pure."""

from __future__ import annotations

from math import isfinite
from typing import Any

AS_TEXT = "info_as_text"  # something that JSON cannot say was written as text
MAX_EXACT = 2**53 - 1  # RFC 8785, 3.2.2.3: what a double holds exactly


def plain(value: object, told: set[str], depth: int = 8) -> Any:
    """Return ``value`` as plain JSON: what isn't, becomes text, and is ``told``.

    NaN and the infinities become text too, because JSON has no word for them and null
    would say that nothing was given; so do integers past 2**53, which not every reader
    keeps. Scalars of numpy and torch give their number. Of names that become the same
    text the later ones get underscores.

    Args:
        value: Anything.
        told: Gets :data:`AS_TEXT` if a value was written as text that is none.
        depth: Containers in one another that are kept as such.
    """
    try:
        return _plain(value, told, depth)
    except Exception:  # noqa: BLE001 - the caller's own code must not stop us
        told.add(AS_TEXT)
        return f"<{type(value).__name__}>"


def _plain(value: object, told: set[str], depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            return value.encode().decode()
        except UnicodeEncodeError:  # half of a surrogate pair
            told.add(AS_TEXT)
            return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, int) and abs(value) <= MAX_EXACT:
        return int(value)
    if isinstance(value, float) and isfinite(value):
        return float(value)
    if depth > 0 and isinstance(value, dict):
        made: dict[str, Any] = {}
        for key, item in tuple(value.items()):  # another thread may change it
            name = plain(key, told, 0)
            if not isinstance(name, str):
                told.add(AS_TEXT)
                name = str(name)
            while name in made:
                name += "_"
            made[name] = plain(item, told, depth - 1)
        return made
    if depth > 0 and isinstance(value, (list, tuple)):
        return [plain(item, told, depth - 1) for item in value]
    if getattr(value, "ndim", None) == 0:
        return plain(value.item(), told, 0)  # type: ignore[attr-defined]
    told.add(AS_TEXT)
    text = int.__repr__(value) if isinstance(value, int) else str(value)
    return text.encode("utf-8", "backslashreplace").decode()
