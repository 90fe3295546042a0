"""Signed notes and checkpoints: who says that a tree of this size has this root.

A note is text, an empty line, and signature lines; a checkpoint is a note of three lines
(origin, size, root). Keys and lines are those of the Go checksum database and of the
transparency logs, so their tools read ours. Opens no file; the key's storage is in
:mod:`carbon_ops.ledger.keys`.

Sources
    C2SP: c2sp.org/signed-note, c2sp.org/tlog-checkpoint, c2sp.org/tlog-cosignature.
    Key text: Go, golang.org/x/mod/sumdb/note. Ed25519: RFC 8032.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import TYPE_CHECKING, NamedTuple

from carbon_ops.errors import InvalidInputError, MissingDependencyError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

ED25519 = 0x01  # signature types assigned by c2sp.org/signed-note
COSIGNATURE = 0x04
KEY_BYTES = 32
SIGNATURE_BYTES = 64
MAX_SIGNATURES = 100  # as Go's note.Open; C2SP asks for 16 at least
MAX_NOTE_BYTES = 65_536
MAX_SIZE = 2**53 - 1  # the largest sequence number of a record, and so of a tree
_DASH = "\u2014 ".encode()
_PRIVATE = "PRIVATE+KEY+"


class NoteError(InvalidInputError):
    """A key, a note or a checkpoint does not have the form its format demands."""


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _unb64(text: str) -> bytes | None:
    """Decode standard base64 in its only canonical spelling; None for any other."""
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return None
    return raw if _b64(raw) == text else None


def _check_name(name: str) -> None:
    if not name or any(c.isspace() or c == "+" or ord(c) < 0x20 for c in name):
        raise NoteError(
            f"{name!r} is no key name: not empty, no spaces, no plus sign",
            hint="Use a name like host.example/ledger.",
        )
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise NoteError(f"{name!r} is no key name: not valid Unicode") from None


def key_id(name: str, kind: int, public: bytes) -> bytes:
    """Return the 4 bytes that point a signature line to its key (no security in them)."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:4]


def _need_cryptography(error: ImportError) -> MissingDependencyError:
    return MissingDependencyError(
        f"signatures need the package cryptography ({error})",
        hint="Install cryptography, or this package with its extra [audit]; without it "
        "a ledger can be kept and checked unsigned.",
    )


def _public(raw: bytes) -> Ed25519PublicKey:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise _need_cryptography(error) from error
    return ed25519.Ed25519PublicKey.from_public_bytes(raw)


def _private(seed: bytes) -> Ed25519PrivateKey:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise _need_cryptography(error) from error
    return ed25519.Ed25519PrivateKey.from_private_bytes(seed)


class VerifierKey(NamedTuple):
    """A public key with its name: a log's (Ed25519) or a witness's (cosignature)."""

    name: str
    kind: int  # ED25519 or COSIGNATURE
    public: bytes  # 32 bytes

    @property
    def id(self) -> bytes:
        return key_id(self.name, self.kind, self.public)

    @classmethod
    def parse(cls, vkey: str) -> VerifierKey:
        """Read ``name+8 hex digits+base64``; the base64 part may hold ``+`` itself.

        Raises:
            NoteError: any other form, a key id that is not this key's, an unknown type.
        """
        parts = vkey.strip("\n").split("+", 2)
        if len(parts) != 3:
            raise NoteError(
                f"{vkey!r} is no verifier key",
                hint="It has the form name+12345678+base64, as `ledger init` prints it.",
            )
        name, shown, text = parts
        _check_name(name)
        raw = _unb64(text)
        if raw is None or len(raw) != 1 + KEY_BYTES:
            raise NoteError(f"verifier key {name}+{shown}: its last part is no key")
        if raw[0] not in (ED25519, COSIGNATURE):
            raise NoteError(f"verifier key {name}+{shown}: unknown type {raw[0]:#04x}")
        key = cls(name, raw[0], raw[1:])
        if shown != key.id.hex():
            raise NoteError(
                f"verifier key {name}+{shown}: the key id is {key.id.hex()}"
            )
        return key

    def text(self) -> str:
        """Return the vkey, as :meth:`parse` reads it."""
        packed = _b64(bytes([self.kind]) + self.public)
        return f"{self.name}+{self.id.hex()}+{packed}"

    def short(self) -> str:
        """Return name and key id: enough for people to tell keys apart."""
        return f"{self.name}+{self.id.hex()}"

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Say whether ``signature`` (64 bytes) over ``message`` is by this key."""
        public = _public(self.public)
        from cryptography.exceptions import InvalidSignature

        try:
            public.verify(signature, message)
        except InvalidSignature:
            return False
        return True


class Signer:
    """A private Ed25519 key with its name. Its ``repr`` shows no secret."""

    __slots__ = ("_private", "_seed", "key")

    def __init__(self, name: str, seed: bytes) -> None:
        _check_name(name)
        if len(seed) != KEY_BYTES:
            raise NoteError(f"a private key is {KEY_BYTES} bytes, got {len(seed)}")
        self._seed = seed
        self._private = _private(seed)
        self.key = VerifierKey(
            name, ED25519, self._private.public_key().public_bytes_raw()
        )

    @classmethod
    def generate(cls, name: str) -> Signer:
        """Make a new key from the system's randomness."""
        import os

        return cls(name, os.urandom(KEY_BYTES))

    @classmethod
    def parse(cls, text: str) -> Signer:
        """Read ``PRIVATE+KEY+name+id+base64``; errors never repeat the key."""
        text = text.strip()
        parts = text[len(_PRIVATE) :].split("+", 2) if text.startswith(_PRIVATE) else []
        if len(parts) != 3:
            raise NoteError("this is no private key: it begins with PRIVATE+KEY+")
        name, shown, packed = parts
        raw = _unb64(packed)
        if raw is None or len(raw) != 1 + KEY_BYTES or raw[0] != ED25519:
            raise NoteError("this private key is damaged or of another type")
        signer = cls(name, raw[1:])
        if shown != signer.key.id.hex():
            raise NoteError(f"this private key is not the one of {name}+{shown}")
        return signer

    def text(self) -> str:
        """Return the secret key as text, for the key file alone."""
        packed = _b64(bytes([ED25519]) + self._seed)
        return f"{_PRIVATE}{self.key.short()}+{packed}"

    @property
    def name(self) -> str:
        return self.key.name

    @property
    def vkey(self) -> str:
        """The public key to give to verifiers."""
        return self.key.text()

    def sign_raw(self, message: bytes) -> bytes:
        """Return the bare 64-byte signature over ``message``."""
        return self._private.sign(message)

    def sign(self, body: bytes) -> bytes:
        """Return the signature line over ``body``, with its line feed."""
        return signature_line(self.key, self.sign_raw(body))


def signature_line(key: VerifierKey, signature: bytes) -> bytes:
    """Return ``— name base64(id || signature)`` and a line feed."""
    return _DASH + f"{key.name} {_b64(key.id + signature)}\n".encode()


class Signature(NamedTuple):
    """One signature line, not yet checked against any key."""

    name: str
    id: bytes  # 4 bytes
    blob: bytes


class Note(NamedTuple):
    """A parsed note. Its text means nothing until a known key's line is checked."""

    body: bytes  # ends with a line feed
    signatures: tuple[Signature, ...]

    def by(self, key: VerifierKey) -> tuple[Signature, ...]:
        """Return the lines that claim to be by ``key``."""
        wanted = (key.name, key.id)
        return tuple(s for s in self.signatures if (s.name, s.id) == wanted)


def parse_note(data: bytes) -> Note:
    """Read a signed note.

    Raises:
        NoteError: no final line feed, no signature, control characters, not UTF-8, a
            malformed signature line, more than 100 of them, or over 64 KiB.
    """
    if len(data) > MAX_NOTE_BYTES:
        raise NoteError(f"a note of {len(data)} bytes, more than {MAX_NOTE_BYTES}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise NoteError("the note is not UTF-8") from None
    if any(c < 0x20 and c != 0x0A for c in data):
        raise NoteError("the note holds a control character")
    split = data.rfind(b"\n\n")
    if split < 0 or not text.endswith("\n"):
        raise NoteError("the note has no empty line, or no line feed at its end")
    body, tail = data[: split + 1], data[split + 2 :]
    lines = tail.split(b"\n")[:-1]
    if not lines or len(lines) > MAX_SIGNATURES:
        raise NoteError(f"the note has {len(lines)} signature lines")
    return Note(body, tuple(_parse_line(line) for line in lines))


def _parse_line(line: bytes) -> Signature:
    parts = line[len(_DASH) :].decode("utf-8").split(" ")
    if not line.startswith(_DASH) or len(parts) != 2:
        raise NoteError("a signature line does not read: dash, name, base64")
    name, packed = parts
    _check_name(name)
    raw = _unb64(packed)
    if raw is None or len(raw) < 5:
        raise NoteError(f"the signature line of {name} holds no base64 signature")
    return Signature(name, raw[:4], raw[4:])


def sign_note(body: bytes, *signers: Signer) -> bytes:
    """Return the whole note: ``body``, an empty line, one line per signer."""
    if not body.endswith(b"\n"):
        raise NoteError("the text of a note ends with a line feed")
    return body + b"\n" + b"".join(signer.sign(body) for signer in signers)


def cosign(body: bytes, signer: Signer, at_s: int) -> bytes:
    """Return a witness's timestamped signature line over a checkpoint's ``body``.

    Args:
        body: The checkpoint's three lines.
        signer: The witness's key; its vkey for verifiers is :func:`witness_key`.
        at_s: When it was seen [s since the Unix epoch].
    """
    signature = signer.sign_raw(_cosigned(body, at_s))
    return signature_line(witness_key(signer), at_s.to_bytes(8, "big") + signature)


def witness_key(signer: Signer) -> VerifierKey:
    """Return the key of type 0x04 that checks what :func:`cosign` makes."""
    return VerifierKey(signer.name, COSIGNATURE, signer.key.public)


def cosigned_at(key: VerifierKey, body: bytes, blob: bytes) -> int | None:
    """Return the time [s since the epoch] of a cosignature; None where it fails."""
    if len(blob) != 8 + SIGNATURE_BYTES:
        return None
    at_s = int.from_bytes(blob[:8], "big")
    if at_s >= 2**63 or not key.verifies(_cosigned(body, at_s), blob[8:]):
        return None
    return at_s


def _cosigned(body: bytes, at_s: int) -> bytes:
    return b"cosignature/v1\ntime %d\n" % at_s + body


class Checkpoint(NamedTuple):
    """A statement: the ledger ``origin``, cut after ``size`` records, has this root."""

    origin: str
    size: int
    root: bytes  # RFC 6962, 32 bytes

    def body(self) -> bytes:
        """Return the three lines that get signed."""
        return f"{self.origin}\n{self.size}\n{_b64(self.root)}\n".encode()

    @classmethod
    def parse(cls, body: bytes) -> Checkpoint:
        """Read exactly three lines.

        Raises:
            NoteError: another number of lines, a size with a leading zero or a sign,
                a root that is not 32 bytes in base64.
        """
        try:
            lines = body.decode("utf-8").split("\n")
        except UnicodeDecodeError:
            raise NoteError("the checkpoint is not UTF-8") from None
        if len(lines) != 4 or lines[3] or not lines[0]:
            raise NoteError("a checkpoint has three lines: origin, size, root")
        origin, size, packed = lines[:3]
        digits = size.isascii() and size.isdigit() and len(size) <= 16
        if not digits or (size != "0" and size[0] == "0") or int(size) > MAX_SIZE:
            raise NoteError(f"{size[:40]!r} is no size of a checkpoint")
        root = _unb64(packed)
        if root is None or len(root) != 32:
            raise NoteError("the checkpoint's root is not 32 bytes in base64")
        return cls(origin, int(size), root)
