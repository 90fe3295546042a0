"""The ledger that programs write: records in, receipts out, each receipt durable.

A flush writes the active file anew with the new records at its end, replaces it, and
replaces the signed checkpoint; only then are the records acknowledged. Whatever fails,
the old state stands or the new one does, and the error says which records are on the
disk. Any number of threads and processes may write; a forked child may go on.

Not for network file systems: ``flock`` and the renaming of open files are not dependable
there.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from carbon_ops.errors import InvalidInputError, LedgerError
from carbon_ops.ledger.chain import draft
from carbon_ops.ledger.failures import (
    CheckpointDelayed,
    KeyNotInForceError,
    LedgerExistsError,
    LedgerWriteError,
)
from carbon_ops.ledger.files import LOCK, Directory
from carbon_ops.ledger.handover import remove_folder
from carbon_ops.ledger.lock import LockTimeout
from carbon_ops.ledger.note import Checkpoint, Signer
from carbon_ops.ledger.recovery import Genesis, is_step, read_genesis
from carbon_ops.ledger.tail import LedgerCorruptError, Receipt
from carbon_ops.ledger.turns import Turns, told
from carbon_ops.ledger.writer import Recovered, Writer

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "CheckpointDelayed",
    "KeyNotInForceError",
    "Ledger",
    "LedgerCorruptError",
    "LedgerExistsError",
    "LedgerWriteError",
    "LockTimeout",
    "Receipt",
    "Recovered",
]

SEGMENT_RECORDS = 256  # one C2SP tile
LOCK_TIMEOUT_S = 10.0


class Ledger:
    """A ledger opened for writing; a context manager. Made by init and open."""

    def __init__(self, writer: Writer, lock_timeout_s: float) -> None:
        """Use :meth:`init` or :meth:`open`."""
        self.path = writer.directory.path
        self.origin = writer.genesis.origin
        self._writer = writer
        self._turns = Turns(writer, lock_timeout_s)

    @classmethod
    def init(
        cls,
        path: str | os.PathLike[str],
        *,
        origin: str | None = None,
        signer: Signer | None = None,
        segment_records: int = SEGMENT_RECORDS,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
    ) -> Ledger:
        """Make a ledger: its directory, mode 0700, and record 0.

        Args:
            path: Directory to make; one that exists must not hold a ledger.
            origin: Name of the ledger in the world, without spaces or ``+``. Default:
                the signer's name, else host and directory name and 8 random digits.
            signer: Key that signs the checkpoints. None: the records are chained, but
                nothing shows it when the newest ones are cut off.
            segment_records: Records per file, a power of two from 64 to 4,096.
            lock_timeout_s: How long a call waits for other writers [s].

        Raises:
            LedgerExistsError: there is a ledger already.
            LedgerError: the directory cannot be made or written.
            InvalidInputError: ``origin`` or ``segment_records`` cannot be used.
        """
        if not is_step(segment_records):
            raise InvalidInputError(
                "segment_records must be a power of two from 64 to 4096, "
                f"got {segment_records!r}"
            )
        path = os.path.abspath(path)
        if origin is None:
            origin = signer.name if signer is not None else _default_origin(path)
        _check_origin(origin)
        _make_directory(path)
        genesis = Genesis(origin, segment_records, signer.vkey if signer else None)
        directory = Directory(path)
        with contextlib.ExitStack() as undo:
            undo.callback(directory.close)
            ledger = cls(Writer(directory, genesis, signer), lock_timeout_s)
            with ledger._turns.alone():
                ledger._writer.begin()
            undo.pop_all()
        return ledger

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        signer: Signer | None = None,
        key_file: Path | None = None,
        repair: bool = False,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
    ) -> Ledger:
        """Open a ledger for appending, and check the end of it.

        Records that no checkpoint covers yet get one. Bytes beyond the checkpoint that
        are no records move to a ``quarantine-...`` file, and a ``recovery`` record says
        so; see :attr:`recovered`.

        Args:
            path: Directory of the ledger.
            signer: Key of the ledger; once it is rotated, this object refuses to write.
            key_file: Where the key lies, and the next one after a rotation, which is
                then taken up. Default for a signed ledger: the file named by
                CARBON_OPS_LEDGER_KEY or the one in the user's configuration folder.
            repair: Cut also an unsigned ledger at the first damaged record of its
                active file, whatever follows. (Otherwise only a damaged last line.)
            lock_timeout_s: How long a call waits for other writers [s].

        Raises:
            LedgerCorruptError: committed records are missing or changed; nothing is
                written then.
            KeyNotInForceError: the key is another ledger's, or was replaced.
            LedgerError: no ledger there, no key, or it cannot be read.
        """
        directory = Directory(os.path.abspath(path))
        with contextlib.ExitStack() as undo:
            undo.callback(directory.close)
            with told(directory.path):
                genesis = read_genesis(directory)
            writer = _writer_for(directory, genesis, signer, key_file)
            ledger = cls(writer, lock_timeout_s)
            with ledger._turns.alone():
                directory.remove_stale()
                writer.cut_any = repair
                writer.refresh()
                writer.cut_any = False
                writer.settle([])
            undo.pop_all()
        return ledger

    @classmethod
    def open_or_init(
        cls,
        path: str | os.PathLike[str],
        *,
        origin: str | None = None,
        signer: Signer | None = None,
    ) -> Ledger:
        """Open the ledger at ``path``, or make one where there is none yet.

        Without ``signer`` a new one is signed if CARBON_OPS_LEDGER_KEY names a key.
        """
        from pathlib import Path

        from carbon_ops.ledger import keys

        with told(os.fspath(path)):
            # LOCK and temporary files: another process is making it, or died of it.
            free = not os.path.lexists(path) or (
                os.path.isdir(path)
                and all(name == LOCK or ".tmp." in name for name in os.listdir(path))
            )
        if free:
            named = os.environ.get(keys.ENV)
            if named and signer is None:
                signer = keys.load(Path(named))
            with contextlib.suppress(LedgerExistsError):  # another process was quicker
                return cls.init(path, origin=origin, signer=signer)
        return cls.open(path, signer=signer)

    def close(self) -> None:
        """Write what is missing (checkpoint, due heartbeat) and let the files go."""
        writer = self._writer
        if writer.directory.descriptor < 0:
            return
        try:
            if self._turns.process == os.getpid() and writer.unfinished:
                self.flush()
        finally:
            remove_folder(writer.directory)
            writer.directory.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_writer"):
            self._writer.directory.close()

    @property
    def size(self) -> int:
        """Records in the ledger when this object last looked."""
        return self._writer.tail.size

    @property
    def recovered(self) -> Recovered | None:
        """What was cut off the damaged end of the ledger, if this object did so."""
        return self._writer.recovered

    @property
    def vkey(self) -> str | None:
        """The public key of the key that signs here; None: the ledger is unsigned."""
        return self._writer.vkey

    @property
    def signed(self) -> bool:
        """Whether a key signs checkpoints over the records."""
        return self._writer.signer is not None

    def append(self, record: Mapping[str, object]) -> Receipt:
        """Write one record; see :meth:`append_many`."""
        return self.append_many([record])[0]

    def append_many(self, records: Iterable[Mapping[str, object]]) -> list[Receipt]:
        """Write records, durably, in order; return their places and hashes.

        They share the cost of the disk, as do calls of several threads at once. Records
        of one segment enter the ledger together or not at all.

        Args:
            records: Each with a ``type``, without ``seq`` and ``prev_hash``.

        Raises:
            InvalidInputError: a record has no canonical form; nothing was written.
            CheckpointDelayed: all are durable, but not yet covered.
            LedgerWriteError: the disk refused; ``durable`` says what stands.
            LockTimeout: another writer did not let go; nothing was written.
            LedgerCorruptError: somebody damaged the ledger; nothing was written.
        """
        drafts = [draft(record) for record in records]
        return self._turns.run(drafts) if drafts else []

    def flush(self) -> None:
        """Write a checkpoint that is missing, and a heartbeat that is due.

        Records need no flush: :meth:`append` returns when they are on the disk.
        """
        self._turns.run([])

    def heartbeat(self) -> Receipt:
        """Write a record that says: the ledger was alive at this time."""
        return self._turns.run([self._writer.beat.record()])[0]

    def holds(self, receipt: Receipt) -> bool:
        """Say whether a record is in the ledger, durable, after an ``unsure`` failure.

        Raises:
            LedgerError: the disk still refuses; nothing is known then.
        """
        with self._turns.alone():
            self._writer.refresh()
            self._writer.settle([])
            return bool(self._writer.prefix([receipt]))

    def checkpoint(self) -> Checkpoint | None:
        """Return the statement of the checkpoint over all records; None if unsigned."""
        with self._turns.alone():
            self._writer.refresh()
            self._writer.settle([])
            return self._writer.statement() if self._writer.signer else None

    def rotate_key(
        self, new: Signer, install: Callable[[], None] | None = None
    ) -> Receipt:
        """Hand over to another key: a record and a checkpoint signed by both.

        From then on only ``new`` opens the ledger for writing. Other writers that are
        running take it up from their key file, or are refused.

        Args:
            new: The key; its name is the ledger's.
            install: Puts ``new`` where writers look for it. Called once the record
                stands, before another writer gets the lock.

        Raises:
            LedgerError: the ledger is unsigned, or ``new`` is the key in force.
            LedgerWriteError: as :meth:`append_many`.
        """
        from carbon_ops.ledger.rotation import rotation_record

        with self._turns.alone():
            writer = self._writer
            writer.refresh()
            old = writer.signer
            if old is None:
                raise LedgerError("an unsigned ledger has no key to rotate")
            if old.vkey == new.vkey:
                raise LedgerError(f"{new.key.short()} is the key in force already")
            writer.settle([])
            record = rotation_record(self.origin, writer.tail.size, old, new)
            try:
                return writer.settle([draft(record)], also=old, then=new)[0]
            finally:
                if install is not None and writer.signer is new:
                    install()


def _writer_for(
    directory: Directory, genesis: Genesis, signer: Signer | None, key_file: Path | None
) -> Writer:
    if genesis.vkey is None:
        if signer is not None or key_file is not None:
            raise LedgerError(
                f"the ledger {genesis.origin} was begun without a key",
                hint="Begin a new ledger with a key; the old one stays as it is.",
            )
        return Writer(directory, genesis, None)
    if signer is None:
        from carbon_ops.ledger.keys import key_path, load

        key_file = key_file or key_path(genesis.origin)
        signer = load(key_file)
    return Writer(directory, genesis, signer, key_file)


def _default_origin(path: str) -> str:
    host = os.uname().nodename or "localhost"
    name = os.path.basename(path) or "ledger"
    plain = "".join(c if c.isalnum() or c in "-._" else "-" for c in name)
    return f"{host}/{plain}-{os.urandom(4).hex()}"


def _check_origin(origin: str) -> None:
    if not origin or not origin.isprintable() or " " in origin or "+" in origin:
        raise InvalidInputError(
            f"{origin!r} cannot name a ledger: one word of text, without a plus sign",
            hint="A name like host.example/ledger is unique in the world.",
        )


def _make_directory(path: str) -> None:
    """Make the directory, and its entry in the one above durable."""
    try:
        os.makedirs(path, mode=0o700)
        above = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(above)
        finally:
            os.close(above)
    except FileExistsError:
        return
    except OSError as error:
        raise LedgerError(f"cannot make {path}: {error.strerror}") from error
