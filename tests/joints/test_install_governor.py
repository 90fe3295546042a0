"""What `install-governor` shows, writes and takes away, and that the copy runs."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from carbon_ops.cli import governor_units as units
from carbon_ops.cli.install_governor import command
from carbon_ops.cli.main import cli
from carbon_ops.governor import protocol
from carbon_ops.governor.client import GovernorClient
from carbon_ops.testing.governor import GovernorProcess

PACKAGING = Path(__file__).parents[2] / "packaging"
SHIPPED = {
    "systemd/carbon-governor.service": units.service,
    "systemd/carbon-governor.socket": units.socket,
    "sysusers.d/carbon-ops.conf": units.sysusers,
    "tmpfiles.d/carbon-ops.conf": units.tmpfiles,
}


@pytest.mark.parametrize("name", SHIPPED)
def test_packaging_holds_what_would_be_installed(name: str) -> None:
    assert (PACKAGING / name).read_text() == SHIPPED[name](units.Setup())


def test_a_dry_run_shows_everything_and_changes_nothing(tmp_path: Path) -> None:
    done = CliRunner().invoke(command, ["--dry-run", "--root", str(tmp_path)])

    assert done.exit_code == 0
    for path in (*units.files(units.Setup()), f"{units.HOME}/__main__.py"):
        assert f"write   {tmp_path}{path} " in done.output
    assert os.listdir(tmp_path) == []


def test_what_was_written_is_taken_away(tmp_path: Path) -> None:
    other = tmp_path / "etc/systemd/system/other.service"
    other.parent.mkdir(parents=True)
    other.write_text("mine")

    wrote = CliRunner().invoke(command, ["--yes", "--root", str(tmp_path)])
    modes = {stat.S_IMODE(p.stat().st_mode) for p in tmp_path.rglob("*.py")}
    again = CliRunner().invoke(command, ["--yes", "--root", str(tmp_path)])
    gone = CliRunner().invoke(
        command, ["--yes", "--uninstall", "--root", str(tmp_path)]
    )

    assert [run.exit_code for run in (wrote, again, gone)] == [0, 0, 0]
    assert modes == {0o644}
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [other]


def test_msr_mode_loads_its_module_at_every_boot_and_sysfs_mode_does_not(
    tmp_path: Path,
) -> None:
    loaded = tmp_path / "etc/modules-load.d/carbon-ops.conf"
    runner = CliRunner()

    for mode, there in (("msr", True), ("sysfs", False), ("msr", True)):
        words = ["--yes", f"--rapl-mode={mode}", "--root", str(tmp_path)]
        assert runner.invoke(command, words).exit_code == 0
        assert loaded.exists() is there
    assert loaded.read_text().splitlines()[-1] == "msr"
    runner.invoke(command, ["--yes", "--uninstall", "--root", str(tmp_path)])
    assert not loaded.exists()


def test_the_copy_runs_without_the_package(tmp_path: Path) -> None:
    CliRunner().invoke(command, ["--yes", "--root", str(tmp_path)])
    home = f"{tmp_path}{units.HOME}"
    with GovernorProcess() as other:  # for its short directory
        other.wait_ready()
        path = f"{other.directory}/copy"
        process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", home, "--rapl-mode=simulated"),
                *(f"--socket={path}", f"--socket-group={os.getegid()}"),
            ],
            cwd="/",
            stderr=subprocess.PIPE,
        )
        try:
            assert process.stderr is not None
            assert b"serving 2 of 2 zones" in process.stderr.readline()
            assert GovernorClient(path).origin.source == "simulated"
        finally:
            process.terminate()
            process.communicate(timeout=30)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to lose")
def test_nothing_is_loaded_after_the_capabilities_are_gone(tmp_path: Path) -> None:
    CliRunner().invoke(command, ["--yes", "--root", str(tmp_path)])
    home = f"{tmp_path}{units.HOME}"
    # As a checkout in the home of the user who called sudo: only a capability of
    # root's opens it.
    os.chmod(home, 0o700)
    os.chown(home, 65_534, 65_534)
    with GovernorProcess() as other:
        other.wait_ready()
        path = f"{other.directory}/copy"
        process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", home, "--rapl-mode=simulated"),
                f"--socket={path}",
            ],
            cwd="/",
            stderr=subprocess.PIPE,
        )
        try:
            assert process.stderr is not None
            assert b"serving" in process.stderr.readline()
            replies = _every_op(path)
        finally:
            process.terminate()
            said = process.communicate(timeout=30)[1]

    assert replies == [True] * 5 + [False]
    assert said == b""


def _every_op(path: str) -> list[bool]:
    now = time.monotonic_ns()
    lines = [
        protocol.encode_request(protocol.Request(op))
        for op in ("hello", "snapshot", "map")
    ]
    with socket.socket(socket.AF_UNIX) as raw, raw.makefile("rb") as replies:
        raw.settimeout(20)
        raw.connect(path)
        raw.sendall(lines[1])
        first = protocol.decode_reply(replies.readline())
        assert isinstance(first, protocol.SnapshotReply)
        start = first.sample.monotonic_ns
        lines += [
            protocol.encode_request(protocol.Request(op, start, max(start, now)))
            for op in protocol.TIMED_OPS
        ]
        found = []
        for line in (*lines, b"nonsense\n"):
            raw.sendall(line)
            reply = protocol.decode_reply(replies.readline())
            found.append(not isinstance(reply, protocol.ErrorReply))
        return found


def test_a_numbered_group_is_not_made(tmp_path: Path) -> None:
    CliRunner().invoke(
        command, ["--yes", "--socket-group=4711", "--root", str(tmp_path)]
    )

    assert not (tmp_path / "etc/sysusers.d/carbon-ops.conf").exists()
    text = (tmp_path / "etc/systemd/system/carbon-governor.socket").read_text()
    assert "SocketGroup=4711\n" in text


@pytest.mark.parametrize(
    "words",
    [
        ["--socket-group=a b"],
        ["--socket-group=x\nExecStart=/bin/sh"],
        ["--socket-group="],
        ["--dry-run", "--python=python3"],
        ["--dry-run", "--python=/nonexistent"],
        ["--dry-run", "--python=/etc/passwd x"],
    ],
)
def test_senseless_choices_change_nothing(words: list[str], tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["install-governor", *words])

    assert done.exit_code != 0
    assert "write " not in done.output


def test_an_interpreter_that_others_can_change_is_refused(tmp_path: Path) -> None:
    mine = tmp_path / "python3"
    shutil.copy("/bin/sh", mine)
    done = CliRunner().invoke(command, ["--dry-run", f"--python={mine}"])

    assert done.exception is not None
    assert done.exit_code != 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root is allowed")
def test_who_is_not_root_is_told(tmp_path: Path) -> None:
    if not os.path.exists("/usr/bin/python3"):
        pytest.skip("no system interpreter to name")
    done = CliRunner().invoke(command, ["--yes"])

    assert "only root" in str(done.exception)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
@pytest.mark.parametrize("mode", ["sysfs", "msr"])
def test_systemd_finds_no_fault_and_little_exposure(tmp_path: Path, mode: str) -> None:
    setup = units.Setup(python="/bin/true", rapl_mode=mode)
    service = tmp_path / "carbon-governor.service"
    service.write_text(units.service(setup))
    (tmp_path / "carbon-governor.socket").write_text(units.socket(setup))

    verified = subprocess.run(
        ["systemd-analyze", "verify", str(service)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    judged = subprocess.run(
        [
            "systemd-analyze",
            "security",
            "--offline=yes",
            "--threshold=15",
            str(service),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")
    assert judged.returncode == 0, judged.stdout[-200:]
