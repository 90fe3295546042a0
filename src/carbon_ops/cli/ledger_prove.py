"""``carbon-ops ledger prove``, ``check-proof``, ``anchor`` and ``witness-request``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import BinaryIO

import click

from carbon_ops.cli.ledger_verify import (
    jobs_option,
    print_verdict,
    processes,
    progress_on_terminal,
    read_vkeys,
    trusted_keys,
)
from carbon_ops.cli.output import visible
from carbon_ops.errors import InvalidInputError
from carbon_ops.ledger.commitment import opens, read_opening
from carbon_ops.ledger.note import VerifierKey
from carbon_ops.ledger.proofs import MAX_PROOF_BYTES
from carbon_ops.ledger.verify import verify_ledger


def write_new(path: str, data: bytes) -> None:
    """Write a file that must not be there yet, durably.

    Raises:
        InvalidInputError: it is there, or cannot be written.
    """
    try:
        with open(path, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InvalidInputError(f"cannot write {path}: {error.strerror}") from error


@click.command("prove")
@click.argument("ledger", type=click.Path())
@click.argument("seq", type=click.IntRange(0))
@click.option("-o", "--output", type=click.Path(), help="File (default: stdout).")
def prove(ledger: str, seq: int, output: str | None) -> None:
    """Write a proof that record SEQ is under LEDGER's signed checkpoint.

    The proof file stands alone: the record, its path through the hash tree and the
    checkpoint, as text (c2sp.org/tlog-proof). Hand it over without the ledger; its
    holder needs the public key only: `ledger check-proof`.

    \b
    example:
      carbon-ops ledger prove audit 17 -o 17.tlog-proof

    \b
    exit status:
      0  written
      2  no such record, not covered yet, an unsigned ledger, or wrong usage
    """
    from carbon_ops.ledger.prove import prove as make_proof

    proof = make_proof(ledger, seq)
    if output is None:
        click.echo(proof.file, nl=False)
    else:
        write_new(output, proof.file)


@click.command("check-proof")
@click.argument("proof", type=click.File("rb"))
@click.option(
    "--opening",
    "openings",
    multiple=True,
    type=click.File("rb"),
    help="Path, salt and value (JSON) of a value that the record only commits to.",
)
@trusted_keys
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check_proof(
    proof: BinaryIO,
    openings: tuple[BinaryIO, ...],
    vkey: tuple[str, ...],
    vkey_file: tuple[str, ...],
    origin: str | None,
    as_json: bool,
) -> int:
    """Check the file PROOF (- for stdin), offline, and print the record it proves.

    It holds if the record, along its path, leads to a root that a trusted key signed.
    That the record is true, and that its ledger was not made twice, it cannot say.
    Where the record holds a commitment in place of a private value, whoever was given
    its opening sees with --opening that the value is the one committed to.

    \b
    examples:
      carbon-ops ledger check-proof 17.tlog-proof --vkey "$VKEY"
      carbon-ops ledger check-proof - --vkey-file keys < 17.tlog-proof

    \b
    exit status:
      0  it holds
      1  it does not
      2  wrong usage
    """
    from carbon_ops.ledger import proofs

    keys = [VerifierKey.parse(text) for text in read_vkeys(vkey, vkey_file)]
    if not keys:
        raise InvalidInputError(
            "a proof is checked against a key",
            hint="Give the ledger's public key with --vkey or --vkey-file.",
        )
    report = proofs.check_proof(proof.read(MAX_PROOF_BYTES + 1), keys, origin)
    opened = [read_opening(file.read(MAX_PROOF_BYTES)) for file in openings]
    if report.holds:
        record = json.loads(report.record)
        closed = next((o for o in opened if not opens(record, o)), None)
        if closed is not None:
            why = f"the record does not commit to this value at {closed.path!r:.80}"
            report = report._replace(holds=False, code="E_COMMIT", detail=why)
    if as_json:
        fields = report.to_dict()
        fields["opened"] = [o._asdict() for o in opened] if report.holds else []
        click.echo(json.dumps(fields, indent=2, ensure_ascii=False))
    elif report.holds:
        click.echo(
            visible(
                f"HOLDS  record {report.seq} of {report.size} in {report.origin}, "
                f"signed by {report.signer}"
            ),
            err=True,
        )
        for opening in opened:
            value = json.dumps(opening.value, ensure_ascii=False)
            click.echo(visible(f"OPENED {opening.path} = {value}"), err=True)
        click.echo(report.record)
    else:
        click.echo(visible(f"DOES NOT HOLD {report.code}  {report.detail}"))
        if report.code == "E_KEY_UNKNOWN":
            click.echo(
                "A proof file does not show changes of key: give the vkey that was in "
                "force when it was made, or verify the ledger, which follows them.",
                err=True,
            )
    return 0 if report.holds else 1


@click.command("anchor")
@click.argument("ledger", type=click.Path())
@click.argument("folder", type=click.Path(path_type=Path))
@trusted_keys
@jobs_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def anchor(
    ledger: str,
    folder: Path,
    vkey: tuple[str, ...],
    vkey_file: tuple[str, ...],
    origin: str | None,
    jobs: int | None,
    as_json: bool,
) -> int:
    """Compare LEDGER with all checkpoints kept in FOLDER, then keep the present one.

    FOLDER belongs where the ledger's writer cannot change it: another machine, a
    repository, a medium that is written once. A ledger that was rolled back, or written
    a second time by the holder of its key, no longer agrees with what was kept. Of an
    unsigned ledger the size and the root are kept, which shows a cut tail too.

    \b
    example:
      carbon-ops ledger anchor audit /mnt/elsewhere --vkey "$VKEY"

    \b
    exit status:
      as `ledger verify`; nothing new is kept unless it is 0
    """
    kept = sorted(folder.glob("*.checkpoint"))
    keys = read_vkeys(vkey, vkey_file)
    with progress_on_terminal(ledger) as progress:
        report = verify_ledger(
            ledger,
            vkeys=keys,
            origin=origin,
            anchor=kept,
            jobs=processes(ledger, jobs),
            progress=progress,
        )
    saved = None
    if report.exit_code == 0 and report.checkpoint is not None:
        place = folder / f"{report.covered or report.size:020d}.checkpoint"
        if not place.exists():
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InvalidInputError(
                    f"cannot make {folder}: {error.strerror}"
                ) from error
            write_new(str(place), report.checkpoint.encode())
            saved = str(place)
    if as_json:
        result = report.to_dict() | {"kept": len(kept), "saved": saved}
        click.echo(json.dumps(result, indent=2))
        return report.exit_code
    print_verdict(report)
    click.echo(f"compared with {len(kept)} kept checkpoints")
    click.echo(f"kept {saved}" if saved else "nothing new to keep")
    return report.exit_code


@click.command("witness-request")
@click.argument("ledger", type=click.Path())
@click.argument("old", type=click.IntRange(0))
@click.option("-o", "--output", type=click.Path(), help="File (default: stdout).")
def witness_request(ledger: str, old: int, output: str | None) -> None:
    """Write what asks a witness to sign LEDGER's checkpoint.

    OLD is the size that the witness signed last, 0 at first; an answer 409 names it. Post
    the file to the witness's `/add-checkpoint` (c2sp.org/tlog-witness). The line it answers
    goes to the end of a saved checkpoint, which `ledger verify --anchor` then checks with
    the witness's key as a further `--vkey`.

    \b
    example:
      carbon-ops ledger witness-request audit 0 |
          curl --data-binary @- https://witness.example/add-checkpoint

    \b
    exit status:
      0  written
      2  OLD is larger than the ledger, it is unsigned, or wrong usage
    """
    from carbon_ops.ledger.prove import Prover
    from carbon_ops.ledger.witness import Request

    prover = Prover(ledger)
    try:
        body = Request(old, tuple(prover.extends(old)), prover.note).text()
    finally:
        prover.close()
    if output is None:
        click.echo(body, nl=False)
    else:
        write_new(output, body)
