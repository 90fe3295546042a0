"""``carbon-ops run`` over real processes: the command behaves as if we were not there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from carbon_ops.errors import InvalidInputError
from carbon_ops.meter import enclosure
from carbon_ops.meter.enclosure import Enclosure
from carbon_ops.sources.cgroup import CgroupClock, own_path

DEADLINE_S = 60.0
RUN = (sys.executable, "-m", "carbon_ops", "run")


@pytest.fixture(name="env")
def _env(tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "CARBON_OPS_SOCKET": str(tmp_path / "nobody.sock"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "HOME": str(tmp_path),
    }


Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture(name="run")
def _run(env: dict[str, str]) -> Run:
    def run(*argv: str, **kwargs: Any) -> subprocess.CompletedProcess[bytes]:
        kwargs.setdefault("capture_output", True)
        kwargs.setdefault("env", env)
        return subprocess.run([*RUN, *argv], timeout=DEADLINE_S, check=False, **kwargs)

    return run


@pytest.fixture(name="start")
def _start(env: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def start(*argv: str, **kwargs: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([*RUN, *argv], env=env, **kwargs)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def until(condition: Callable[[], bool]) -> None:
    """Wait until ``condition`` holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def summary(stderr: bytes) -> dict[str, Any]:
    """Return the object on the last line of standard error."""
    found = json.loads(stderr.splitlines()[-1])
    assert isinstance(found, dict)
    return found


# --- nothing is touched ---------------------------------------------------------------


def test_output_input_and_status_of_the_command_pass_through_untouched(
    run: Run,
) -> None:
    done = run(
        "--", "sh", "-c", "cat; echo 'an error' >&2; exit 7", input=b"\0\xff bytes\n"
    )
    assert done.returncode == 7
    assert done.stdout == b"\0\xff bytes\n"
    assert done.stderr.startswith(b"an error\n")
    assert b"attribution_mode=monitor_only reason=no_socket" in done.stderr


def test_the_command_needs_no_separator_and_keeps_its_own_options(run: Run) -> None:
    done = run("sh", "-c", 'printf %s "$1"', "sh", "--json")
    assert (done.returncode, done.stdout) == (0, b"--json")


def test_much_output_arrives_whole(run: Run) -> None:
    done = run("--", "head", "-c", "20000000", "/dev/zero")
    assert len(done.stdout) == 20_000_000


def test_a_reader_that_leaves_ends_the_command_as_without_us(
    env: dict[str, str],
) -> None:
    script = f'{" ".join(RUN)} -o /dev/null -- yes | head -1; echo "${{PIPESTATUS[0]}}"'
    done = subprocess.run(
        ["bash", "-c", script],
        env=env,
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.stdout.split() == [b"y", b"141"]


def test_the_environment_of_the_command_is_ours_as_it_was(
    run: Run, env: dict[str, str]
) -> None:
    bare = {k: v for k, v in env.items() if not k.startswith(("LC_", "LANG"))}
    bare["LANG"] = "C"  # Python would add LC_CTYPE to its own environment
    done = run("--", "env", "-0", env=bare)
    seen = dict(item.split(b"=", 1) for item in done.stdout.split(b"\0") if item)
    assert seen == {os.fsencode(k): os.fsencode(v) for k, v in bare.items()}


def test_descriptors_given_to_us_reach_the_command_and_ours_do_not(
    run: Run, tmp_path: Path
) -> None:
    with (tmp_path / "given").open("wb") as given:
        fd = given.fileno()
        done = run("--", "bash", "-c", f"echo it >&{fd}; echo /dev/fd/*", pass_fds=[fd])
    assert (tmp_path / "given").read_text() == "it\n"
    # bash has the folder itself open while it expands the pattern.
    expected = {f"/dev/fd/{n}" for n in (0, 1, 2, fd, 3 if fd != 3 else 4)}
    assert {os.fsdecode(name) for name in done.stdout.split()} == expected


def test_closed_standard_streams_stay_closed(env: dict[str, str]) -> None:
    look = "test -e /proc/self/fd/0 || test -e /proc/self/fd/1 || exit 9"
    script = f"{' '.join(RUN)} -- sh -c '{look}' <&- >&- 2>&-; echo $?"
    done = subprocess.run(
        ["bash", "-c", script],
        env=env,
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.stdout == b"9\n"


def test_the_terminal_of_the_error_stream_may_be_gone(run: Run) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = run("--", "sh", "-c", "exit 5", capture_output=False, stderr=write)
    finally:
        os.close(write)
    assert done.returncode == 5


def test_a_full_disk_for_the_summary_changes_no_status(run: Run) -> None:
    assert run("-o", "/dev/full", "--", "sh", "-c", "exit 6").returncode == 6


def test_ignored_signals_stay_ignored_and_default_ones_default() -> None:
    show = ("grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status")

    def masks(*argv: str) -> list[int]:
        done = subprocess.run(
            ["nohup", *argv], capture_output=True, stdin=subprocess.DEVNULL, check=True
        )
        # glibc's posix_spawn ignores 32 and 33, its own, which no program can use.
        own = 1 << 31 | 1 << 32
        return [int(word, 16) & ~own for word in done.stdout.split()[1::2]]

    assert masks(*RUN, "--", *show) == masks(*show)


# --- exit statuses --------------------------------------------------------------------


def test_a_command_that_does_not_exist_is_127(
    run: Run, env: dict[str, str], tmp_path: Path
) -> None:
    # A folder on PATH that may not be searched says nothing about the command.
    denied = tmp_path / "denied"
    denied.mkdir(mode=0o000)
    path = f"{denied}:{os.environ['PATH']}"
    done = run("--", "there-is-no-such-command", env={**env, "PATH": path})
    assert done.returncode == 127
    assert b"there-is-no-such-command: command not found" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_command_that_is_no_program_is_126(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a program")
    for path in (tmp_path, tmp_path / "data"):
        done = run("--", str(path))
        assert done.returncode == 126
        assert b"Traceback" not in done.stderr


def test_a_script_whose_interpreter_is_missing_is_not_called_missing(
    run: Run, tmp_path: Path
) -> None:
    script = tmp_path / "bad-interpreter"
    script.write_text("#!/nonexistent/python\n")
    script.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    for name in (str(script), script.name):
        done = run("--", name, env={**os.environ, "PATH": path})
        assert done.returncode == 126  # as bash has it
        assert b"interpreter" in done.stderr
        assert str(script).encode() in done.stderr


def test_a_script_without_an_interpreter_line_runs(run: Run, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text('echo "$0 $1"\n')
    script.chmod(0o755)
    done = run("--", "script", "x", env={**os.environ, "PATH": f"{tmp_path}:/bin"})
    assert done.stdout == f"{script} x\n".encode()


@pytest.mark.parametrize(
    "argv",
    [
        ["--region", "ZZ", "--", "touch", "ran"],
        ["--no-such-option", "--", "touch", "ran"],
        ["--ledger", "a-file", "--", "touch", "ran"],
        ["-o", "no/such/folder/file", "--", "touch", "ran"],
        [],
        ["--", "", "touch", "ran"],
    ],
)
def test_our_own_failures_are_125_and_the_command_never_starts(
    run: Run, tmp_path: Path, argv: list[str]
) -> None:
    (tmp_path / "a-file").write_text("")
    done = run(*argv, cwd=tmp_path)
    assert done.returncode == 125
    assert not (tmp_path / "ran").exists()
    assert done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["TERM", "KILL", "INT", "SEGV"])
def test_death_by_a_signal_is_128_and_its_number(run: Run, name: str) -> None:
    done = run("--json", "--", "sh", "-c", f"ulimit -c 0; kill -{name} $$")
    number = getattr(signal, f"SIG{name}")
    assert done.returncode == 128 + number
    assert summary(done.stderr)["metric"]["additional_info"]["signal"] == number


# --- signals --------------------------------------------------------------------------

TRAPS = """
for s in HUP INT TERM USR1; do trap "echo got $s; kill %1; exit 3" $s; done
sleep 60 & echo ready; wait
"""


@pytest.mark.parametrize("name", ["HUP", "INT", "TERM", "USR1"])
def test_a_signal_sent_to_us_reaches_the_command_which_decides(
    start: Callable[..., subprocess.Popen[bytes]], name: str
) -> None:
    process = start(
        "--", "bash", "-c", TRAPS, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(getattr(signal, f"SIG{name}"))
    out, err = process.communicate(timeout=DEADLINE_S)
    assert out == f"got {name}\n".encode()
    assert process.returncode == 3
    assert b"(exit status 3)" in err


def test_stopping_and_continuing_us_stops_and_continues_the_command(
    start: Callable[..., subprocess.Popen[bytes]],
) -> None:
    process = start(
        "--",
        *("bash", "-c", "echo $$; read line; echo $line"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # A group of its own whose parent is in the session: SIGTSTP stops no orphans.
        preexec_fn=lambda: os.setpgid(0, 0),
    )
    assert process.stdout is not None
    command = int(process.stdout.readline())
    process.send_signal(signal.SIGTSTP)
    until(lambda: state_of(command) == "T")
    # Our group has no shell that could continue it, so we ourselves may stay awake.
    process.send_signal(signal.SIGCONT)
    until(lambda: state_of(command) != "T")
    out, _ = process.communicate(b"went on\n", timeout=DEADLINE_S)
    assert (out, process.returncode) == (b"went on\n", 0)


# What CPython returns after a wait that was interrupted beyond its time.
INTERRUPTED = """
import signal
from types import SimpleNamespace
from carbon_ops.meter.launch import Supervisor
wait, left = signal.sigtimedwait, [SimpleNamespace(si_signo=n) for n in (0, 21930, -7)]
signal.sigtimedwait = lambda *given: left.pop() if left else wait(*given)
with Supervisor() as supervisor:
    supervisor.start(["sh", "-c", "exit 3"])
    assert supervisor.wait().status == 3
"""


def test_a_wait_that_was_interrupted_is_no_signal() -> None:
    command = [sys.executable, "-c", INTERRUPTED]
    subprocess.run(command, check=True, timeout=DEADLINE_S)


# Signals that come faster than looks are due do not put them off.
LOOKS = """
import os, signal, time
from itertools import pairwise
from carbon_ops.meter.launch import Supervisor
looks = [time.monotonic()]
with Supervisor() as supervisor:
    pid = supervisor.start(["sh", "-c", "while kill -WINCH $PPID; do sleep 0.002; done"])
    def look():
        looks.append(time.monotonic())
        if len(looks) == 7:
            os.kill(pid, signal.SIGKILL)
    assert supervisor.wait(look).signal == signal.SIGKILL
pauses = [later - earlier for earlier, later in pairwise(looks)]
assert all(pause >= 0.005 * 2**i for i, pause in enumerate(pauses)), pauses
"""


def test_looks_grow_rarer_and_no_flood_of_signals_keeps_them_away() -> None:
    command = [sys.executable, "-c", LOOKS]
    subprocess.run(command, check=True, timeout=DEADLINE_S)


def state_of(pid: int) -> str:
    """Return the one-letter state of process ``pid``."""
    text = Path(f"/proc/{pid}/stat").read_text()
    return text[text.rindex(")") + 2]


# --- whose CPU time -------------------------------------------------------------------


def burn(seconds: float) -> str:
    """Return a shell command that uses ``seconds`` of CPU time."""
    code = f"import time\nwhile time.process_time() < {seconds}: pass"
    return f"{sys.executable} -S -c '{code}'"


def cpu_s(done: subprocess.CompletedProcess[bytes]) -> float:
    """Return the CPU time [s] in the summary."""
    value = summary(done.stderr)["metric"]["cpu"]["process_s"]
    assert isinstance(value, float)
    return value


def test_hundreds_of_short_children_are_all_counted(run: Run) -> None:
    script = f"for i in $(seq 100); do {burn(0.02)}; done"
    assert cpu_s(run("--json", "--", "sh", "-c", script)) >= 100 * 0.02


@pytest.mark.parametrize(
    "escape",
    ["({work}) & wait", "({work} &)", "setsid -f {work}", "setsid {work} & wait"],
    ids=["background", "double fork", "setsid -f", "setsid"],
)
def test_descendants_that_leave_their_parent_are_counted(
    run: Run, tmp_path: Path, escape: str
) -> None:
    work = tmp_path / "work"
    work.write_text(f"#!/bin/sh\n{burn(0.3)}\necho > {tmp_path}/done\n")
    work.chmod(0o755)
    script = (
        f"{escape.format(work=work)}; while ! test -e {tmp_path}/done; do sleep 0.02;"
        " done"
    )
    done = run("--json", "--", "sh", "-c", script)
    assert cpu_s(done) >= 0.3
    assert summary(done.stderr)["metric"]["additional_info"]["exit_status"] == 0


def test_children_left_running_are_named_and_not_waited_for(
    run: Run, tmp_path: Path
) -> None:
    done = run(
        "--json",
        "-o",
        str(tmp_path / "summary"),
        "--",
        *("sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!"),
    )
    left = int(done.stdout)
    try:
        found = json.loads((tmp_path / "summary").read_text())
        assert found["metric"]["additional_info"]["left_running"] == 1
        assert "still running" in found["notes"][0]
        os.kill(left, 0)
    finally:
        os.kill(left, signal.SIGKILL)


def test_a_zombie_of_the_command_is_no_harm(run: Run) -> None:
    code = "import os\nif os.fork() == 0: os._exit(0)\nos._exit(4)"
    assert run("--", sys.executable, "-c", code).returncode == 4


def test_our_own_work_is_not_billed_to_the_command(run: Run) -> None:
    # Importing what a summary needs alone takes more than this.
    assert cpu_s(run("--json", "--", "true")) < 0.05


def test_a_name_commands_no_terminal_and_is_text(run: Run) -> None:
    done = run("--label", "a\x1b[2J\nb", "--", "true")
    assert b"carbon-ops: a?[2J?b (exit status 0)\n" in done.stderr
    done = run("--json", "--label", os.fsdecode(b"\xff"), "--", "true")
    assert json.loads(done.stderr.splitlines()[-1])["operation"] == "\ufffd"


def test_the_label_names_the_operation(run: Run) -> None:
    for argv, name in (((), "true"), (("--label", "nightly"), "nightly")):
        done = run("--json", *argv, "--", "true")
        assert summary(done.stderr)["metric"]["operation"] == name


# --- in a cgroup of its own -----------------------------------------------------------

# Its child is reaped by the kernel, which tells nobody what it used.
UNREAPED = """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
if os.fork() == 0:
    while time.process_time() < 0.3: pass
    os._exit(0)
try:
    os.wait()
except ChildProcessError:
    pass
"""


def test_children_that_end_untold_are_flagged_and_counted_as_far_as_seen(
    run: Run,
) -> None:
    done = run("--json", "--", sys.executable, "-S", "-c", UNREAPED)
    found = summary(done.stderr)
    flags = found["metric"]["energy"]["quality"]["flags"]
    assert {"children_auto_reaped", "child_left"} <= set(flags)
    assert "--cgroup counts it" in found["notes"][0]
    assert 0.05 < cpu_s(done) < 0.6
    told = summary(run("--json", "--", "sh", "-c", "sleep 0.1").stderr)
    assert "children_auto_reaped" not in told["metric"]["energy"]["quality"]["flags"]


def test_a_cgroup_counts_what_no_parent_is_told(run: Run) -> None:
    try:
        Enclosure().close()
    except InvalidInputError as refused:
        pytest.skip(str(refused))
    before = set(os.listdir(CgroupClock(own_path()).folder))
    command = ("--", sys.executable, "-S", "-c", UNREAPED)

    done = run("--json", "--cgroup", *command)
    assert cpu_s(done) >= 0.3
    flags = summary(done.stderr)["metric"]["energy"]["quality"]["flags"]
    assert not {"children_auto_reaped", "child_left"} & set(flags)
    assert set(os.listdir(CgroupClock(own_path()).folder)) <= before


def test_who_may_not_make_a_cgroup_is_told_and_nothing_runs(tmp_path: Path) -> None:
    (tmp_path / "cpuacct.usage").write_text("0\n")
    (tmp_path / f"carbon-ops-run-{os.getpid()}").write_text("in the way")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(enclosure, "own_path", lambda: str(tmp_path))
        with pytest.raises(InvalidInputError, match="cannot make a cgroup") as caught:
            Enclosure()
    assert "Delegate=yes" in caught.value.hint


# --- memory ---------------------------------------------------------------------------


def memory(done: subprocess.CompletedProcess[bytes]) -> tuple[Any, list[str]]:
    """Return the peak of the resident memory, and what the flags say of it."""
    metric = summary(done.stderr)["metric"]
    flags = metric["energy"]["quality"]["flags"]
    return metric["memory"]["peak_rss_bytes"], [f for f in flags if "peak" in f]


def test_a_small_command_is_not_taken_to_be_as_big_as_we_are(run: Run) -> None:
    # From fork to exec it was: the kernel's ru_maxrss of it begins at ours.
    peak, flags = memory(run("--json", "--", "sh", "-c", "read x", input=b"\n"))
    assert flags == ["peak_rss_unknown" if peak is None else "peak_rss_sampled"]
    assert peak is None or peak < 6 << 20
    lasting, flags = memory(run("--json", "--", "sleep", "0.1"))
    assert flags == ["peak_rss_sampled"]
    assert 100_000 < lasting < 6 << 20


def test_the_peak_of_a_big_command_is_exact_however_short_it_was_there(
    run: Run,
) -> None:
    big = f"{sys.executable} -S -c 'b\"x\" * (200 << 20)'"
    peak, flags = memory(run("--json", "--", "sh", "-c", f"{big}; sleep 0.1"))
    assert flags == []
    assert 200 << 20 <= peak < 260 << 20


def test_each_of_several_runs_has_its_own_peak(run: Run, tmp_path: Path) -> None:
    big = f"{sys.executable} -S -c 'b\"x\" * (200 << 20)'"
    first = f"test -e {tmp_path}/seen || {{ >{tmp_path}/seen; {big}; }}; sleep 0.1"
    done = run("--json", "--repeat", "2", "--", "sh", "-c", first)
    peaks = [
        one["metric"]["memory"]["peak_rss_bytes"]
        for one in summary(done.stderr)["runs"]
    ]
    assert peaks[0] >= 200 << 20
    assert peaks[1] < 6 << 20
