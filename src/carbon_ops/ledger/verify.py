"""Checks a ledger for a stranger: nothing in it is believed, nothing is written.

The key, the name of the ledger and what an earlier checkpoint said come from the caller.
Bad data gives a verdict, never an exception; only wrong arguments and a missing package
raise.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from carbon_ops.clock import wall_ns
from carbon_ops.errors import InvalidInputError
from carbon_ops.ledger.chain import FORMAT
from carbon_ops.ledger.checks import Fault
from carbon_ops.ledger.kept import Anchor, Kept, read_all
from carbon_ops.ledger.note import (
    COSIGNATURE,
    ED25519,
    MAX_NOTE_BYTES,
    Checkpoint,
    Note,
    NoteError,
    VerifierKey,
    cosigned_at,
    parse_note,
)
from carbon_ops.ledger.reader import NotAFileError, open_file, read_checkpoint
from carbon_ops.ledger.report import Report
from carbon_ops.ledger.rotation import KeyHistory
from carbon_ops.ledger.walk import Options, Walk

_CLOCK_SLACK_S = 300.0  # by which a record may be ahead of the verifier's clock


def verify_ledger(
    path: str | os.PathLike[str],
    *,
    vkeys: Iterable[str | VerifierKey] = (),
    origin: str | None = None,
    anchor: Anchor | Sequence[Anchor] | None = None,
    min_size: int | None = None,
    max_age: float | None = None,
    strict: bool = False,
    recompute: bool = False,
    links_only: bool = False,
    jobs: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Verify the ledger at ``path``, a directory or a plain chain of JSON lines.

    Args:
        path: A ledger's directory; or a ``.jsonl`` file, whose checkpoint, if there is
            one, lies beside it as ``<file>.checkpoint``.
        vkeys: Keys that are trusted: the ledger's, and those of witnesses. The one in
            the ledger's first record is never believed.
        origin: The ledger's name; that of the first key by default.
        anchor: One or more earlier checkpoints kept elsewhere: file names or bytes. Lines
            of witnesses whose keys are given are checked there as well.
        min_size: Records known to have been covered.
        max_age: Greatest age [s] of the newest covered record.
        strict: Records beyond the checkpoint make the exit status 1.
        recompute: Derive the grams of every estimate from its own inputs.
        links_only: Check the hashes that link the records (and the signature), but
            neither canonical form nor tree, and so no anchor.
        jobs: Processes that check sealed segments side by side. More than 1 needs a
            main module that can be imported, as all of :mod:`multiprocessing` does.
        progress: Called with the number of records done so far.

    Returns:
        The verdict, with a code and a record's number where something is wrong.

    Raises:
        NoteError: a key or an anchor does not have its form.
        InvalidInputError: an argument that cannot be meant.
        MissingDependencyError: a signature is to be checked without ``cryptography``.
    """
    given = [vkeys] if isinstance(vkeys, (str, VerifierKey)) else vkeys
    keys = [k if isinstance(k, VerifierKey) else VerifierKey.parse(k) for k in given]
    if jobs < 1 or (min_size or 0) < 0 or (max_age or 0) < 0:
        raise InvalidInputError("jobs, min_size and max_age cannot be negative")
    if recompute and links_only:
        raise InvalidInputError("recompute reads records, links_only does not")
    anchors = read_all(anchor)
    if anchors and links_only:
        raise InvalidInputError("an anchor names a root, links_only computes none")
    check = _Check(os.fspath(path), keys, origin, anchors, min_size, max_age)
    check.base = Report("OK", strict=strict, links_only=links_only)
    try:
        return check.run(recompute, jobs, progress)
    except NotAFileError as error:
        why = f"{error} is a symbolic link or no plain file"
        return check.failed(Fault("E_SYMLINK", None, why))
    except OSError as error:
        why = f"cannot read {error.filename or path}: {error.strerror}"
        return check.base._replace(verdict="NOT_CHECKED", code="E_IO", detail=why)


class _Check:
    """One verification. The order of its steps decides which of two faults is told."""

    def __init__(
        self,
        path: str,
        keys: Sequence[VerifierKey],
        origin: str | None,
        anchors: Sequence[Kept],
        min_size: int | None,
        max_age: float | None,
    ) -> None:
        self.path = path
        self.keys = [key for key in keys if key.kind == ED25519]
        self.witnesses = [key for key in keys if key.kind == COSIGNATURE]
        self.origins = {origin} if origin else {key.name for key in self.keys}
        self.anchors = anchors
        self.min_size = min_size
        self.max_age = max_age
        self.data = b""  # the checkpoint as it was read
        self.note: Note | None = None
        self.claim: Checkpoint | None = None
        self.seen_s: list[tuple[str, int]] = []  # witness, time of its cosignature
        self.base = Report("OK")

    def failed(self, fault: Fault) -> Report:
        return self.base._replace(
            verdict="TAMPERED", code=fault.code, seq=fault.seq, detail=fault.detail
        )

    def run(
        self, recompute: bool, jobs: int, progress: Callable[[int], None] | None
    ) -> Report:
        directory = stat.S_ISDIR(os.stat(self.path).st_mode)
        fault = self._read_checkpoint()
        if fault is not None:
            return self.failed(fault)
        covered = self.claim.size if self.claim else 0
        marks = {a.checkpoint.size for a in self.anchors} | {covered}
        options = Options(
            tuple(sorted(marks)),
            covered,
            self.claim is not None,
            self.base.links_only,
            recompute,
        )
        walk = Walk(options, progress)
        if directory:
            if jobs > 1:
                from carbon_ops.ledger.parallel import walk_segments

                walk_segments(walk, self.path, jobs)
            walk.directory(self.path)
        else:
            descriptor = open_file(self.path)
            if descriptor is None:
                raise FileNotFoundError(2, "No such file or directory", self.path)
            walk.file(descriptor, last=True)
        self.base = self.base._replace(
            size=walk.chain.seq,
            covered=covered,
            signed=self.claim is not None,
            origin=self.claim.origin if self.claim else None,
            recomputed=walk.chain.recomputed if recompute else None,
            skipped=walk.chain.skipped,
        )
        return self._conclude(walk, directory)

    # --- the checkpoint, before any record

    def _read_checkpoint(self) -> Fault | None:
        data = read_checkpoint(self.path, MAX_NOTE_BYTES)
        if data is None:
            if self.keys or self.witnesses:
                return Fault(
                    "E_CKPT_MISSING", None, "no checkpoint to check the key on"
                )
            return None
        try:
            self.data, self.note = data, parse_note(data)
            self.claim = Checkpoint.parse(self.note.body)
        except NoteError as error:
            return Fault("E_CKPT_FORMAT", None, f"checkpoint: {error}")
        if self.origins and self.claim.origin not in self.origins:
            why = f"the checkpoint is of {self.claim.origin!r:.80}, not of this ledger"
            return Fault("E_ORIGIN", None, why)
        if self.keys:  # a later rotation may still make an unknown signer known
            _, fault = KeyHistory("", self.keys, None, ()).signed(self.note, 0)
            if fault is not None and fault.code == "E_CKPT_SIG":
                return fault
        self.seen_s, fault = self._cosignatures(self.note)
        return fault

    def _cosignatures(self, note: Note) -> tuple[list[tuple[str, int]], Fault | None]:
        found: list[tuple[str, int]] = []
        for key in self.witnesses:
            for line in note.by(key):
                at_s = cosigned_at(key, note.body, line.blob)
                if at_s is None:
                    why = f"the cosignature of {key.short()} does not fit"
                    return [], Fault("E_COSIG", None, why)
                found.append((key.short(), at_s))
        return found, None

    # --- after the last record

    def _conclude(self, walk: Walk, directory: bool) -> Report:
        fault = (
            walk.fault
            or self._cut(walk)
            or self._beginning(walk, directory)
            or self._root(walk)
        )
        if fault is not None:
            return self.failed(fault)
        history: KeyHistory | None = None
        if self.note is not None and self.claim is not None and self.keys:
            history = self._history(walk, self.claim.origin)
            signer, fault = history.signed(self.note, self.claim.size)
            fault = history.fault or fault
            if signer is not None:
                self.base = self.base._replace(signer=signer.short())
        elif walk.chain.rotations and not self._signed(walk):
            seq = walk.chain.rotations[0][0]
            fault = Fault("E_ROTATION", seq, f"record {seq}: an unsigned ledger")
        fault = fault or self._named(walk)
        if fault is not None:
            return self.failed(fault)
        if not self.keys and self._signed(walk):
            return self.base._replace(
                verdict="NOT_CHECKED",
                code="E_KEY_UNKNOWN",
                detail=f"{walk.chain.seq} records chain, but the ledger is signed and "
                "no key was given to check that with (--vkey)",
            )
        return self._outside(walk, history)

    def _signed(self, walk: Walk) -> bool:
        genesis = walk.chain.genesis or {}
        return self.claim is not None or genesis.get("vkey") is not None

    def _cut(self, walk: Walk) -> Fault | None:
        size = walk.chain.seq
        if self.claim is not None and size < self.claim.size:
            why = f"{size} records; the checkpoint covers {self.claim.size}"
            return Fault("E_TRUNCATED", size, why)
        if size == 0 and walk.torn is None and self.claim is None:
            return Fault("E_EMPTY", None, "no record at all")
        return None

    def _beginning(self, walk: Walk, directory: bool) -> Fault | None:
        genesis = walk.chain.genesis
        if self.base.links_only or not directory or walk.chain.seq == 0:
            return None
        if genesis is None or genesis.get("format") != FORMAT:
            return Fault("E_GENESIS", 0, f"record 0: no genesis of format {FORMAT}")
        if self.claim is None and genesis.get("vkey") is not None:
            return Fault("E_CKPT_MISSING", None, "a signed ledger without checkpoint")
        return None

    def _root(self, walk: Walk) -> Fault | None:
        if self.claim is None or self.base.links_only:
            return None
        if walk.roots.get(self.claim.size) != self.claim.root:
            why = f"records 0 to {self.claim.size - 1} are not those that were signed"
            return Fault("E_ROOT", None, why)
        return None

    def _history(self, walk: Walk, origin: str) -> KeyHistory:
        vkey = (walk.chain.genesis or {}).get("vkey")
        return KeyHistory(origin, self.keys, vkey, walk.chain.rotations)

    def _named(self, walk: Walk) -> Fault | None:
        named = (walk.chain.genesis or {}).get("origin")
        origin = self.claim.origin if self.claim else None
        wanted = {origin} if origin else self.origins
        if named is not None and wanted and named not in wanted:
            return Fault("E_ORIGIN", 0, f"record 0: the ledger of {named!r:.80}")
        self.base = self.base._replace(
            origin=origin or (named if isinstance(named, str) else None)
        )
        return None

    # --- compared with what lies outside the ledger

    def _outside(self, walk: Walk, history: KeyHistory | None) -> Report:
        size = self.claim.size if self.claim else walk.chain.seq
        links_only = self.base.links_only  # then nothing leads from records to a root
        agreed = [f"cosigned by {name}" for name, _ in self.seen_s if not links_only]
        seen = {name for name, _ in self.seen_s}
        for kept in self.anchors:
            fault = self._compare(kept, size, walk, history)
            if fault is not None:
                return self.failed(fault)
            told = f"agrees with {kept.name} of {kept.checkpoint.size} records"
            told += "".join(f", cosigned by {name}" for name in kept.seen_by)
            agreed.append(told)
            seen.update(kept.seen_by)
        unseen = [key.short() for key in self.witnesses if key.short() not in seen]
        self.base = self.base._replace(unseen=tuple(unseen))
        if self.min_size is not None:
            if size < self.min_size:
                why = f"{size} records are covered, {self.min_size} were known"
                return self.failed(Fault("E_ROLLBACK", size, why))
            agreed.append(f"at least the {self.min_size} records that were known")
        if self.max_age is not None:
            fault = self._stale(walk, self.max_age)
            if fault is not None:
                return self.failed(fault)
        kept_text = self.data
        if not kept_text and self.base.origin and not self.base.links_only:
            claim = Checkpoint(self.base.origin, size, walk.tree.root())
            kept_text = claim.body()
        self.base = self.base._replace(
            anchors=tuple(agreed), checkpoint=kept_text.decode("utf-8") or None
        )
        if walk.torn is not None:
            torn = self.failed(walk.torn)
            return torn._replace(verdict="TORN_TAIL", code="E_TORN_TAIL")
        if self.base.pending:
            why = f"{self.base.pending} records lie beyond the last checkpoint"
            return self.base._replace(verdict="OK_PENDING", detail=why)
        return self.base

    def _compare(
        self, kept: Kept, size: int, walk: Walk, history: KeyHistory | None
    ) -> Fault | None:
        anchor = kept.checkpoint
        if self.base.origin is not None and anchor.origin != self.base.origin:
            raise InvalidInputError(
                f"the anchor {kept.name} is of {anchor.origin!r}, the ledger of "
                f"{self.base.origin!r}"
            )
        if kept.note is not None:
            seen, fault = self._cosignatures(kept.note)
            if history is not None:
                fault = history.signed(kept.note, anchor.size)[1] or fault
            if fault is not None:
                raise InvalidInputError(f"the anchor {kept.name}: {fault.detail}")
            kept.seen_by = [name for name, _ in seen]
        if anchor.size > size:
            why = f"{size} records are covered, {kept.name} covers {anchor.size}"
            return Fault("E_ROLLBACK", size, why)
        if walk.roots.get(anchor.size) != anchor.root:
            why = f"the first {anchor.size} records are not those of {kept.name}"
            return Fault("E_FORK", None, why)
        return None

    def _stale(self, walk: Walk, max_age: float) -> Fault | None:
        now = wall_ns() / 1e9
        times = [float(at) for _, at in self.seen_s]
        if walk.chain.newest is not None:
            times.append(_seconds(walk.chain.newest))
        ages = [now - at for at in times if at - now <= max(max_age, _CLOCK_SLACK_S)]
        if not ages or min(ages) > max_age:
            age = f"{min(ages):.0f} s old" if ages else "without a usable time"
            why = f"the newest covered record is {age}, {max_age:.0f} s were allowed"
            return Fault("E_STALE", None, why)
        return None


def _seconds(text: str) -> float:
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return at.timestamp() if at.tzinfo else float("-inf")
    except (ValueError, OverflowError):
        return float("-inf")
