"""What a writer finds when it opens a ledger: the end of it, checked, or a refusal.

Reads the checkpoint first, then the newest segment and the active file, at a cost that
does not depend on the ledger's size. Only where the derived file ``frontier`` is missing
or does not fold to the signed root is every record read. Writes nothing.
"""

from __future__ import annotations

import json
from typing import NamedTuple, TypeGuard

from carbon_ops.errors import LedgerError
from carbon_ops.ledger import subtrees as trees
from carbon_ops.ledger.chain import FORMAT, MAX_RECORD_BYTES, ZERO_HASH, record_hash
from carbon_ops.ledger.checks import Chain
from carbon_ops.ledger.failures import KeyNotInForceError
from carbon_ops.ledger.files import (
    ACTIVE,
    CHECKPOINT,
    FRONTIER,
    Directory,
    Identity,
    segment_name,
    segment_start,
)
from carbon_ops.ledger.merkle import Frontier
from carbon_ops.ledger.note import (
    MAX_NOTE_BYTES,
    MAX_SIZE,
    Checkpoint,
    Note,
    NoteError,
    Signer,
    VerifierKey,
    parse_note,
    sign_note,
)
from carbon_ops.ledger.rotation import KeyHistory
from carbon_ops.ledger.tail import Anchor, LedgerCorruptError, Tail

ROTATE = b'"type":"key_rotate"'


class Genesis(NamedTuple):
    """What record 0 says about the ledger."""

    origin: str
    step: int  # records per segment
    vkey: str | None  # the key of the beginning; None: unsigned


class Found(NamedTuple):
    """The end of a ledger as it stands on the disk."""

    tail: Tail
    subtrees: trees.Subtrees | None  # over the sealed segments; None: unsigned
    covered: int  # size of the checkpoint; 0 if there is none
    active: Identity | None  # the active file; None: there is none
    torn: bytes  # what follows the last good record
    newest: bytes  # lines of the newest segment, for a look at recent records


def read_genesis(directory: Directory) -> Genesis:
    """Return what record 0 says.

    Raises:
        LedgerError: there is no ledger here, or a later version made it.
        LedgerCorruptError: the first record is no genesis.
    """
    data = directory.read(segment_name(0)) or directory.read(ACTIVE)
    if not data:
        if directory.state(CHECKPOINT) is not None:
            raise LedgerCorruptError("E_TRUNCATED", 0, "a checkpoint without records")
        raise LedgerError(
            f"no ledger in {directory.path}",
            hint="`carbon-ops ledger init` makes one.",
        )
    chain = Chain()
    chain.feed([data[: MAX_RECORD_BYTES + 1].partition(b"\n")[0]])
    if chain.genesis is None:
        raise LedgerCorruptError("E_GENESIS", 0, "the first record is no genesis")
    record = chain.genesis
    version, step = record.get("format"), record.get("segment_records")
    origin, vkey = record.get("origin"), record.get("vkey")
    if isinstance(version, int) and version > FORMAT:
        raise LedgerError(
            f"the ledger {directory.path} has format {version}, this version writes "
            f"{FORMAT}",
            hint="Upgrade carbon-ops.",
        )
    if version != FORMAT or not isinstance(origin, str) or not is_step(step):
        raise LedgerCorruptError("E_GENESIS", 0, "the genesis record makes no sense")
    return Genesis(origin, step, vkey if isinstance(vkey, str) else None)


def is_step(step: object) -> TypeGuard[int]:
    """Say whether a segment may hold this many records: a power of two, 64 to 4,096."""
    return type(step) is int and 64 <= step <= 4_096 and step & (step - 1) == 0


def read_anchor(directory: Directory, genesis: Genesis, signer: Signer) -> Anchor:
    """Return the checkpoint's size and root, its signature verified.

    Raises:
        LedgerCorruptError: missing, malformed, of another origin, or a wrong signature.
        LedgerError: signed by another key than that of ``signer``.
    """
    data = directory.read(CHECKPOINT, MAX_NOTE_BYTES)
    if data is None:
        raise LedgerCorruptError("E_CKPT_MISSING", None, "the checkpoint is missing")
    try:
        note = parse_note(data)
        checkpoint = Checkpoint.parse(note.body)
    except NoteError as error:
        raise LedgerCorruptError("E_CKPT_FORMAT", None, str(error)) from error
    if checkpoint.origin != genesis.origin:
        raise LedgerCorruptError("E_ORIGIN", None, "the checkpoint of another ledger")
    if data == sign_note(note.body, signer):  # Ed25519 is deterministic, and signing is
        return Anchor(checkpoint.size, checkpoint.root)  # three times as fast
    key = signer.key
    lines = note.by(key)
    if not lines:
        key = _retiring(directory, genesis, key, note, checkpoint.size)
        lines = note.by(key)
    if not all(key.verifies(note.body, line.blob) for line in lines):
        raise LedgerCorruptError("E_CKPT_SIG", None, "the signature does not fit")
    return Anchor(checkpoint.size, checkpoint.root)


def load(directory: Directory, genesis: Genesis, signer: Signer | None) -> Found:
    """Return the end of the ledger, checked against the checkpoint. Under the lock.

    Raises:
        LedgerCorruptError: committed records are missing or changed.
        LedgerError: the key given is not the one in force.
    """
    step = genesis.step
    starts = sorted(s for s in map(segment_start, directory.names()) if s is not None)
    sealed = len(starts) * step
    if starts != list(range(0, sealed, step)):
        gap = next(at for at, s in enumerate([*starts, -1]) if s != at * step) * step
        raise LedgerCorruptError("E_SEGMENT_MISSING", gap, f"{segment_name(gap)} is")
    found = directory.look(ACTIVE)
    data, active = found if found is not None else (b"", None)
    newest = b""
    if sealed:
        newest = directory.read(segment_name(sealed - step)) or b""
    if signer is None:
        tail = _unsigned_tail(step, sealed, newest)
        taken = tail.read(data, None)
        return Found(tail, None, 0, active, data[taken:], newest)
    _refuse_retired(newest + data, signer)
    anchor = Anchor(0, b"")
    if sealed or data.count(b"\n") > 1 or directory.state(CHECKPOINT) is not None:
        anchor = read_anchor(directory, genesis, signer)
    try:
        tail, subtrees = _quick(directory, step, sealed, newest, anchor)
        taken = tail.read(data, anchor)
    except LedgerCorruptError:  # perhaps only the derived file is wrong
        tail, subtrees = _walk(directory, step, sealed, anchor)
        taken = tail.read(data, anchor)
    if tail.size < anchor.size:
        raise LedgerCorruptError(
            "E_TRUNCATED",
            tail.size,
            f"{tail.size} records, but the checkpoint covers {anchor.size}",
        )
    return Found(tail, subtrees, anchor.size, active, data[taken:], newest)


def _unsigned_tail(step: int, sealed: int, newest: bytes) -> Tail:
    if not sealed:
        return Tail(step)
    lines = newest.split(b"\n")
    chain = Chain(sealed - step, None if sealed > step else ZERO_HASH)
    sound = chain.feed(lines[:-1])
    if chain.fault is not None:
        raise LedgerCorruptError(*chain.fault)
    if not sound or chain.seq != sealed or lines[-1]:
        raise LedgerCorruptError("E_TRUNCATED", chain.seq, "a segment is too short")
    return Tail(step, sealed, chain.prev_hash or ZERO_HASH)


def _quick(
    directory: Directory, step: int, sealed: int, newest: bytes, anchor: Anchor
) -> tuple[Tail, trees.Subtrees]:
    """Stand at the end of the segments by way of the derived file."""
    subtrees = trees.parse(directory.read(FRONTIER), step) or trees.empty(step)
    if (
        anchor.size < sealed
        or subtrees.size > sealed
        or newest[-1:] != b"\n" * bool(sealed)
    ):
        raise LedgerCorruptError("E_CORRUPT_COMMITTED", None, "not by the short way")
    for first in range(subtrees.size, sealed, step):
        subtrees.add(trees.segment_root(directory.read(segment_name(first)) or b""))
    if subtrees.segments and subtrees.segments[-1] != trees.segment_root(newest):
        raise LedgerCorruptError("E_CORRUPT_COMMITTED", None, "the newest segment")
    last_hash = ZERO_HASH
    if sealed:
        last_hash = record_hash(newest[newest.rfind(b"\n", 0, -1) + 1 : -1])
    tail = Tail(step, sealed, last_hash, subtrees.frontier())
    tail.check(anchor)
    return tail, subtrees


def _walk(
    directory: Directory, step: int, sealed: int, anchor: Anchor
) -> tuple[Tail, trees.Subtrees]:
    """Read every segment: what the derived file says, from the records themselves."""
    tail, subtrees = Tail(step, frontier=Frontier()), trees.empty(step)
    while tail.size < sealed:
        data = directory.read(segment_name(tail.size)) or b""
        if tail.read(data, anchor) < len(data) or tail.room:
            raise LedgerCorruptError(
                "E_CORRUPT_COMMITTED",
                tail.size,
                f"the segment with record {tail.size} is damaged",
            )
        subtrees.add(tail.turn_over())
    return tail, subtrees


def _rotations(data: bytes) -> list[dict[str, object]]:
    lines = [line for line in data.split(b"\n") if ROTATE in line]
    found = []
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and record.get("type") == "key_rotate":
            found.append(record)
    return found


def _refuse_retired(recent: bytes, signer: Signer) -> None:
    """A checkpoint right after a rotation carries the old key's line too."""
    rotations = _rotations(recent) if ROTATE in recent else []
    if rotations and rotations[-1].get("new_vkey") != signer.vkey:
        raise KeyNotInForceError(
            f"the key {signer.key.short()} was replaced by record "
            f"{rotations[-1].get('seq')}; nothing was written",
            hint="Open the ledger with the new key, or finish `ledger rotate-key` by "
            "running it again.",
        )


def _retiring(
    directory: Directory, genesis: Genesis, key: VerifierKey, note: Note, size: int
) -> VerifierKey:
    """Return the key in force at ``size``, if a later rotation hands over to ``key``.

    A writer that died between a rotation and its checkpoint leaves such a state.
    """
    rotations: list[tuple[int, dict[str, object]]] = []
    starts = sorted(s for s in map(segment_start, directory.names()) if s is not None)
    for name in [*map(segment_name, starts), ACTIVE]:
        data = directory.read(name) or b""
        if ROTATE in data:
            rotations += [
                (record["seq"], record)
                for record in _rotations(data)
                if isinstance(record["seq"], int)
            ]
    named = genesis.vkey or ""
    try:
        first = VerifierKey.parse(named)
    except NoteError:
        first = key
    history = KeyHistory(genesis.origin, [first], named, rotations)
    giver, fault = history.signed(note, size)
    if giver is not None and fault is None and history.in_force(MAX_SIZE) == key:
        return giver
    names = ", ".join(f"{s.name}+{s.id.hex()}" for s in note.signatures)
    raise KeyNotInForceError(
        f"the ledger's checkpoint is signed by {names}, not by {key.short()}",
        hint="Give the key that the ledger was made with, or rotated to.",
    )
