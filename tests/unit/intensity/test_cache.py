"""The cache of replies does not grow for ever."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from carbon_ops.intensity import cache
from carbon_ops.intensity.cache import Cache, Stored


def test_the_oldest_replies_make_room_for_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "MOST", 5)
    kept = Cache(str(tmp_path), offline=True)
    for day in range(9):
        kept.put("made", "/path", {"day": str(day)}, Stored(b"%d" % day, day, True))
        for age, path in enumerate(sorted((tmp_path / "made").iterdir())):
            found = path.stat().st_mtime_ns
            if found > 10**12:  # written just now: give it an age that is certain
                os.utime(path, ns=(day + 1, day + 1))
            assert age < 5
    bodies = [kept.get("made", "/path", {"day": str(d)}, fresh_s=0) for d in range(9)]
    assert [b and b.body for b in bodies] == [None] * 4 + [b"4", b"5", b"6", b"7", b"8"]


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_could_have_written_is_not_believed(
    tmp_path: Path, mode: int
) -> None:
    cache = Cache(str(tmp_path), offline=True)
    cache.put("p", "/x", {}, Stored(b"{}", 0, True))
    assert cache.get("p", "/x", {}, fresh_s=0) is not None
    (file,) = tmp_path.glob("p/*.json")
    file.chmod(mode)
    assert cache.get("p", "/x", {}, fresh_s=0) is None
