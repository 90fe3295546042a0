"""Sealed segments checked side by side, in several processes.

A sealed segment never changes, so any process may check it, without knowing the record
before it; the one that puts the results together compares the hashes at the seams.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, NamedTuple

from carbon_ops.ledger.files import segment_name
from carbon_ops.ledger.reader import NotAFileError, blocks, open_file, segments
from carbon_ops.ledger.walk import Options, Walk, make_chain, split_fold

SEGMENTS_PER_JOB = 16


class Stretch(NamedTuple):
    """What one job found in neighbouring segments."""

    end: int  # number of the record after the last good one
    first_prev: str | None
    prev_hash: str | None
    subtrees: list[tuple[int, bytes]]
    genesis: dict[str, Any] | None
    rotations: list[tuple[int, dict[str, Any]]]
    newest: str | None
    recomputed: int
    skipped: int
    whole: bool  # nothing was wrong; else the walk itself has to look at the rest


def check_stretch(path: str, firsts: list[int], options: Options) -> Stretch:
    """Check these segments; stop before the first that is not as it should be."""
    chain = make_chain(options, firsts[0], None)
    subtrees: list[tuple[int, bytes]] = []
    whole = True
    for first, after in zip(firsts, [*firsts[1:], None], strict=True):
        try:
            descriptor = open_file(os.path.join(path, segment_name(first)))
        except (NotAFileError, OSError):
            descriptor = None
        sound = descriptor is not None and chain.seq == first
        at = chain.seq
        if descriptor is not None and not sound:
            os.close(descriptor)
        elif descriptor is not None:
            for lines, tail in blocks(descriptor):
                sound = sound and chain.feed(lines) and not tail
        whole = whole and sound and chain.seq == (after or chain.seq)
        if not whole:
            break
        subtrees += split_fold(at, chain.leaves, options.marks)
        chain.leaves.clear()
    return Stretch(
        chain.seq,
        chain.first_prev,
        chain.prev_hash,
        subtrees,
        chain.genesis,
        chain.rotations,
        chain.newest,
        chain.recomputed,
        chain.skipped,
        whole,
    )


def walk_segments(walk: Walk, path: str, jobs: int) -> None:
    """Advance ``walk`` over the sealed segments with ``jobs`` processes.

    Where a job finds something wrong, the walk stops before that job's segments, for
    the ordinary way to find it again, with its place and its name.
    """
    firsts = segments(path)
    groups = [
        firsts[at : at + SEGMENTS_PER_JOB]
        for at in range(0, len(firsts), SEGMENTS_PER_JOB)
    ]
    if len(groups) < 2:
        return
    context = get_context("spawn")  # a fork would copy the caller's threads' locks
    pool = ProcessPoolExecutor(min(jobs, len(groups)), mp_context=context)
    try:
        found = [pool.submit(check_stretch, path, g, walk.options) for g in groups]
        for group, future in zip(groups, found, strict=True):
            if not _take(walk, group[0], future.result()):
                return
            walk.began.update(group)
    except BrokenProcessPool:
        return  # no processes to be had here; the walk goes on alone
    finally:
        pool.shutdown(cancel_futures=True)


def _take(walk: Walk, first: int, stretch: Stretch) -> bool:
    chain = walk.chain
    seam = chain.seq == first and stretch.first_prev == chain.prev_hash
    if not (stretch.whole and seam):
        return False
    walk.grow(stretch.subtrees)
    chain.seq, chain.prev_hash = stretch.end, stretch.prev_hash
    chain.genesis = chain.genesis or stretch.genesis
    chain.rotations += stretch.rotations
    chain.newest = stretch.newest or chain.newest
    chain.recomputed += stretch.recomputed
    chain.skipped += stretch.skipped
    walk.tell()
    return True
