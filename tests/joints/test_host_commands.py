"""top, monitor, calibrate, doctor and run over a real governor (simulated source)."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from carbon_ops.ledger.verify import verify_ledger
from carbon_ops.testing.governor import GovernorProcess

CLI = (sys.executable, "-m", "carbon_ops")
DEADLINE_S = 60.0


@pytest.fixture(name="governor", scope="module")
def _governor() -> Iterator[GovernorProcess]:
    with GovernorProcess() as process:
        process.wait_ready().close()
        yield process


@pytest.fixture(name="env")
def _env(governor: GovernorProcess, tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "CARBON_OPS_SOCKET": governor.path,
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "CARBON_OPS_REGION": "DE",
    }


@pytest.fixture(name="alone")
def _alone(env: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The environment of a host where no governor runs."""
    return {**env, "CARBON_OPS_SOCKET": str(tmp_path / "nobody.sock")}


def cli(
    env: dict[str, str], *argv: str, **kwargs: Any
) -> subprocess.CompletedProcess[str]:
    """Run ``carbon-ops`` with ``argv``."""
    return subprocess.run(
        [*CLI, *argv],
        env=env,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        **kwargs,
    )


# --- run ------------------------------------------------------------------------------


def test_run_bills_the_counters_share_and_names_the_source(env: dict[str, str]) -> None:
    work = "import time\nwhile time.process_time() < 0.5: pass"
    done = cli(env, "run", "--json", "--", sys.executable, "-c", work)
    energy = json.loads(done.stderr.splitlines()[-1])["metric"]["energy"]
    assert (energy["attribution_mode"], energy["reason"]) == ("governor", None)
    assert energy["components"]["cpu"]["source"] == "simulated"
    low, high = energy["bounds_j"]
    assert low <= energy["energy_j_total"] <= high
    socket = env.pop("CARBON_OPS_SOCKET")
    text = cli(env, "run", "--socket", socket, "--", "true").stderr
    assert "attribution_mode=governor" in text
    assert "SIMULATED" in text


def test_repeated_runs_give_medians_and_one_line_each(
    env: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "ledger"
    run = ("run", "--warmup", "1", "--repeat", "3")
    found = json.loads(
        cli(env, *run, "--json", "--ledger", str(path), "--", "true").stderr
    )
    assert len(found["runs"]) == 3
    assert found["median"]["duration_s"]["runs"] == 3
    assert verify_ledger(path).size == 1 + 3 * 2
    lines = cli(env, *run, "--csv", "--", "true").stderr.splitlines()
    assert [line.split(",")[1] for line in lines] == ["run", "1", "2", "3"]
    assert "median" in cli(env, *run, "--", "true").stderr


def test_repeating_stops_at_a_failure_with_its_status(env: dict[str, str]) -> None:
    done = cli(env, "run", "--repeat", "5", "--json", "--", "sh", "-c", "exit 9")
    assert done.returncode == 9
    assert len(json.loads(done.stderr)["runs"]) == 1


def test_a_run_that_failed_is_recorded_and_in_no_median(
    env: dict[str, str], tmp_path: Path
) -> None:
    twice = f"test -s {tmp_path}/n && exit 9; echo >>{tmp_path}/n; sleep 0.2"
    done = cli(env, "run", "--repeat", "5", "--json", "--", "sh", "-c", twice)
    said = json.loads(done.stderr.splitlines()[-1])
    assert [run["exit_status"] for run in said["runs"]] == [0, 9]
    assert said["median"]["duration_s"]["runs"] == 1
    assert said["median"]["duration_s"]["low"] >= 0.2
    assert said["notes"][0].endswith("after 2 runs; the last is in no median")


def test_a_warmup_that_fails_says_so_and_measures_nothing(env: dict[str, str]) -> None:
    fails = ("--", "sh", "-c", "exit 3")
    done = cli(env, "run", "--warmup", "2", "--json", *fails)
    said = json.loads(done.stderr.splitlines()[-1])
    assert (done.returncode, said["runs"], said["warmup"]) == (3, [], 1)
    assert said["notes"] == ["stopped by exit status 3 in the warm-up"]
    lines = cli(env, "run", "--warmup", "2", "--csv", *fails).stderr.splitlines()
    assert lines[0] == "carbon-ops: stopped by exit status 3 in the warm-up"
    assert lines[1].startswith("operation,run,")


def test_a_summary_that_fits_nowhere_is_shown_on_standard_error(
    env: dict[str, str],
) -> None:
    done = cli(env, "run", "--csv", "-o", "/dev/full", "--", "sh", "-c", "exit 3")
    assert done.returncode == 3
    assert "cannot write /dev/full: No space left on device" in done.stderr
    assert "\nsh,1,3," in done.stderr


# --- top ------------------------------------------------------------------------------


def test_energy_that_is_unknown_says_what_brings_it(env: dict[str, str]) -> None:
    env["CARBON_OPS_POLICY"] = "excluded"
    text = cli(env, "run", "--", "true").stderr
    assert "`carbon-ops calibrate` measures it [no_idle_baseline]" in text


def test_top_prints_rows_that_sum_to_the_host(env: dict[str, str]) -> None:
    done = cli(env, "top", "--json", "--count", "3", "--interval", "0.3")
    looks = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, len(looks)) == (0, 3)
    for look in looks:
        host = look["host"]
        total = int(host["energy_uj"])
        assert int(host["rows_uj"]) + int(host["rest_uj"]) == total > 0
        assert look["attribution_mode"] == "governor"
        assert all(row["power_w"] >= 0 for row in look["rows"])


def test_top_finds_who_works(env: dict[str, str]) -> None:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        done = cli(env, "top", "--json", "-n", "1", "-i", "1", "--rows", "1000")
        cgroups = cli(env, "top", "--json", "-n", "1", "-i", "0.5", "--by", "cgroup")
    finally:
        busy.kill()
        busy.wait()
    rows = {row["key"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows[str(busy.pid)]["energy_j"] > 0
    assert rows[str(busy.pid)]["carbon_g_per_h"] > 0
    assert json.loads(cgroups.stdout)["rows"][0]["key"].startswith("/")


def test_top_without_a_governor_says_that_it_is_a_model(alone: dict[str, str]) -> None:
    done = cli(alone, "top", "-n", "1", "-i", "0.2")
    assert done.returncode == 0
    _, source, why, *_ = done.stdout.splitlines()
    assert "model of CPU load" in source
    assert why == "  no governor is running here"


@pytest.mark.parametrize("name", ["top", "monitor"])
def test_the_settings_of_the_model_hold_for_the_host_too(
    alone: dict[str, str], name: str
) -> None:
    def watts(**more: str) -> float | None:
        done = cli({**alone, **more}, name, "--json", "-n", "1", "-i", "0.3")
        found = json.loads(done.stdout)
        value = found["host" if name == "top" else "energy"]["power_w"]
        assert value is None or isinstance(value, float)
        return value

    # No energy is made up where it was switched off, and given watts are used.
    nothing = {"CARBON_OPS_POWERCAP_ROOT": "/nonexistent"}
    assert watts(CARBON_OPS_MODEL="off", **nothing) is None
    given = {"CARBON_OPS_CPU_IDLE_W": "500", "CARBON_OPS_CPU_LOAD_W": "600", **nothing}
    assert 499 < (watts(**given) or 0) < 601


@pytest.mark.parametrize("ending", ["q", "\x03", "TERM"])
def test_top_gives_the_terminal_back_however_it_ends(
    env: dict[str, str], ending: str
) -> None:
    pid, fd = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.execvpe(CLI[0], [*CLI, "top", "-i", "0.2"], {**env, "TERM": "xterm"})
    seen = ""
    deadline = time.monotonic() + DEADLINE_S

    def read_until(pattern: str) -> None:
        nonlocal seen
        while not re.search(pattern, seen):
            assert time.monotonic() < deadline, seen[-300:]
            if select.select([fd], [], [], 1)[0]:
                seen += os.read(fd, 65536).decode(errors="replace")

    try:
        read_until(r"W host = ")
        if ending == "TERM":
            os.kill(pid, signal.SIGTERM)
        else:
            os.write(fd, ending.encode())
        read_until(r"\x1b\[\?25h\x1b\[\?1049l")
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(fd)
    assert status == (143 if ending == "TERM" else 0)
    assert "Traceback" not in seen


# --- monitor --------------------------------------------------------------------------


def test_monitor_joins_intervals_without_a_hole(
    env: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "ledger"
    done = cli(env, "monitor", "--json", "-n", "4", "-i", "0.3", "--ledger", str(path))
    looks = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, len(looks)) == (0, 4)
    for before, after in pairwise(looks):
        assert after["timestamp_start"][:21] >= before["timestamp_start"][:21]
        assert after["energy"]["energy_j"] > 0
    zones = {zone["zone"]: zone["energy_j"] for zone in looks[-1]["zones"]}
    assert zones
    assert verify_ledger(path).size == 1 + 4
    lines = (path / "active.jsonl").read_text().splitlines()
    assert {json.loads(line)["type"] for line in lines[1:]} == {"host_sample"}


def test_monitor_outlives_its_governor_and_finds_the_next(
    env: dict[str, str], tmp_path: Path
) -> None:
    with GovernorProcess() as first:
        first.wait_ready().close()
        process = subprocess.Popen(
            [*CLI, "monitor", "--json", "-i", "0.2", "--socket", first.path],
            env=env,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        modes: list[str] = []

        def read_until(mode: str) -> None:
            assert process.stdout is not None
            deadline = time.monotonic() + DEADLINE_S
            while not modes or modes[-1] != mode:
                assert time.monotonic() < deadline, modes
                modes.append(
                    json.loads(process.stdout.readline())["energy"]["attribution_mode"]
                )

        read_until("governor")
        first.kill()
        read_until("monitor_only")
        first.start()
        read_until("governor")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0


def test_monitor_ends_quietly_when_its_reader_has_gone(alone: dict[str, str]) -> None:
    script = f"{' '.join(CLI)} monitor -i 0.2 | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", script],
        env=alone,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.stdout.splitlines()[-1] == "141"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "argv",
    [("top", "-n", "1", "-i", "0.2"), ("monitor", "-n", "1", "-i", "0.2"), ("doctor",)],
    ids=lambda argv: argv[0],
)
def test_a_closed_standard_output_is_no_reason_to_fail(
    alone: dict[str, str], argv: tuple[str, ...]
) -> None:
    done = cli(alone, *argv, preexec_fn=lambda: os.close(1))
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


# --- calibrate ------------------------------------------------------------------------


def test_a_stored_baseline_divides_energy_on_this_host_alone(
    env: dict[str, str], tmp_path: Path
) -> None:
    done = cli(env, "calibrate", "--seconds", "2", "--force", "--json")
    idle = json.loads(done.stdout)
    assert done.returncode == 0
    assert idle["source"] == "simulated"
    assert idle["cpu_w"] > 0
    kept = Path(idle["stored"])
    assert kept.stat().st_mode & 0o077 == 0

    def dynamic() -> float | None:
        run = cli(env, "run", "--json", "--", "sleep", "0.3")
        energy = json.loads(run.stderr.splitlines()[-1])["metric"]["energy"]
        value = energy["host"]["dynamic_j"]
        assert value is None or isinstance(value, float)
        return value

    assert dynamic() is not None
    kept.write_text(kept.read_text().replace(idle["kernel"], "another-kernel"))
    assert dynamic() is None
    kept.write_text("{ not json")
    assert dynamic() is None


def test_a_busy_host_is_not_taken_for_an_idle_one(
    env: dict[str, str], tmp_path: Path
) -> None:
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(1 + (os.cpu_count() or 1) // 10)
    ]
    try:
        done = cli(env, "calibrate", "--seconds", "2")
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert done.returncode == 1
    assert "not idle (limit 3.0 %)" in done.stdout
    assert not (tmp_path / "config").exists()


def test_what_cannot_be_stored_is_shown_and_said_with_its_place(
    env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("a file where the folder should be")
    done = cli(env, "calibrate", "--seconds", "2", "--force")
    assert done.returncode == 2
    assert "idle power: packages" in done.stdout
    assert "stored" not in done.stdout
    assert f"cannot store it in {tmp_path}/config/carbon-ops/idle.json" in done.stderr


def test_nothing_is_calibrated_against_a_model(alone: dict[str, str]) -> None:
    done = cli(alone, "calibrate", "--seconds", "2")
    assert done.returncode == 2
    assert "no counter" in done.stderr


# --- doctor ---------------------------------------------------------------------------


def test_doctor_reports_every_component_and_no_traceback(
    env: dict[str, str], alone: dict[str, str]
) -> None:
    for one, cpu in ((env, "SIMULATED"), (alone, "model of CPU load")):
        found = json.loads(cli(one, "doctor", "--json").stdout)
        states = {part["component"]: part for part in found["components"]}
        assert states["cpu package energy"]["state"] == "modelled"
        assert cpu in states["cpu package energy"]["detail"]
        assert {part["state"] for part in found["components"]} <= {
            *("measured", "modelled", "available", "unavailable")
        }
        for part in found["components"]:
            assert part["state"] != "unavailable" or part["why"], part
        text = cli(one, "doctor")
        assert "Traceback" not in text.stdout + text.stderr
        assert cli(one, "doctor", "--strict").returncode == 1
