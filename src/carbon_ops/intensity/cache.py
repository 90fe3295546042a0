"""Replies of providers on disk, so that a question is asked once and can be replayed.

A key is made of the provider, the path and the public parameters, never of a secret. A
reply about a time long past stays good, another one as long as its provider publishes
nothing new. Offline, only what is here is used, however old. The newest replies of each
provider are kept, up to a number. A file that is damaged, or that somebody else could
have written, counts as absent.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import NamedTuple

from carbon_ops import clock

VERSION = 1
MOST = 1_000  # replies kept of one provider, most of them about a day: some 20 MB


class Stored(NamedTuple):
    """A reply and when it was fetched."""

    body: bytes
    fetched_ns: int  # wall clock
    settled: bool  # what it says will not be revised


class Cache:
    """A folder of replies, readable by its owner only.

    Args:
        folder: Where; the user's cache folder when left out.
        offline: Never ask the network: what is missing is an error of the caller's.
    """

    def __init__(self, folder: str | None = None, *, offline: bool = False) -> None:
        self._folder = folder
        self.offline = offline

    @property
    def folder(self) -> str:
        if self._folder is None:
            from platformdirs import user_cache_dir

            self._folder = os.path.join(user_cache_dir("carbon-ops"), "intensity")
        return self._folder

    def get(
        self, provider: str, path: str, params: Mapping[str, str], *, fresh_s: float
    ) -> Stored | None:
        """Return the kept reply, None if there is none or it is too old."""
        key = _key(provider, path, params)
        try:
            with open(self._path(provider, key), encoding="utf-8") as file:
                about = os.fstat(file.fileno())
                if about.st_uid not in (os.geteuid(), 0) or about.st_mode & 0o022:
                    return None
                entry = json.load(file)
            if entry["version"] != VERSION or entry["key"] != key:
                return None
            stored = Stored(
                entry["body"].encode(), int(entry["fetched_ns"]), bool(entry["settled"])
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        age_s = (clock.wall_ns() - stored.fetched_ns) / 1e9
        if self.offline or stored.settled or 0 <= age_s < fresh_s:
            return stored
        return None

    def put(
        self, provider: str, path: str, params: Mapping[str, str], stored: Stored
    ) -> None:
        """Keep a reply. A disk that refuses it costs a later request, nothing else."""
        key = _key(provider, path, params)
        target = self._path(provider, key)
        temporary = f"{target}.{os.getpid()}.tmp"
        try:
            entry = {
                "version": VERSION,
                "key": key,
                "fetched_ns": str(stored.fetched_ns),
                "settled": stored.settled,
                "body": stored.body.decode("utf-8"),
            }
            os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
            descriptor = os.open(
                temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600
            )
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump(entry, file)
            os.replace(temporary, target)
            _prune(os.path.dirname(target))
        except (OSError, UnicodeDecodeError) as error:
            from carbon_ops.log import log

            log().debug("intensity cache: %s", type(error).__name__)

    def _path(self, provider: str, key: str) -> str:
        from hashlib import sha256

        name = sha256(key.encode()).hexdigest()[:32]
        return os.path.join(self.folder, provider, name + ".json")


def _prune(folder: str) -> None:
    """Delete the oldest files beyond :data:`MOST`, those of broken writes among them."""
    with os.scandir(folder) as entries:
        ages = sorted((entry.stat().st_mtime_ns, entry.path) for entry in entries)
    for _, path in ages[: max(0, len(ages) - MOST)]:
        os.unlink(path)


def _key(provider: str, path: str, params: Mapping[str, str]) -> str:
    return json.dumps([provider, path, sorted(params.items())])
