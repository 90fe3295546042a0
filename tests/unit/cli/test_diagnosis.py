"""The doctor's findings follow from the facts, and claim no more than those say."""

from __future__ import annotations

from pathlib import Path

import pytest

from carbon_ops.cli import diagnosis, facts
from carbon_ops.cli.diagnosis import Finding
from carbon_ops.config import Setting
from carbon_ops.errors import ConfigError
from carbon_ops.meter.baseline import Idle
from carbon_ops.model import Layout, SourceName, Zone
from carbon_ops.sources.modelled import CpuModel

METAL = facts.Host("Linux 6", "3.11", "A CPU", 4, None, None)
VIRTUAL = METAL._replace(hypervisor="KVM")
SILENT = facts.Governor("/run/x.sock", "no_socket", "no governor at /run/x.sock")
NONE = facts.Counters((), "no RAPL package counter", False)
DENIED = facts.Counters((), "cannot read energy_uj: Permission denied", True)
MODEL = CpuModel("A CPU", 10.0, 50.0, 0.4, True, "a table, 2026")
MEMBER = facts.Group(True, True, True, "ada", False)


def zone(key: str, kind: str) -> Zone:
    """Return a counted zone."""
    assert kind in ("package", "dram")
    package = kind == "package"
    return Zone(
        key,
        key,
        "package" if package else "dram",
        0,
        True,
        "",
        (1, 1),
        2**32,
        1000.0,
    )


def serving(source: SourceName, *zones: Zone) -> facts.Governor:
    """Return a governor that answers."""
    layout = Layout("i" * 32, "b", source, 100_000_000, zones, None, 0)
    return facts.Governor("/run/x.sock", None, "", 0, layout)


def test_counters_through_the_governor_are_measured_and_named() -> None:
    governor = serving("rapl_sysfs", zone("p0", "package"), zone("d0", "dram"))
    assert diagnosis.cpu(METAL, governor, NONE, MODEL) == Finding(
        "measured", "rapl_sysfs by the governor: p0"
    )
    assert diagnosis.dram(governor, NONE).state == "measured"


def test_a_simulated_counter_is_never_called_measured() -> None:
    governor = serving("simulated", zone("p0", "package"), zone("d0", "dram"))
    for finding in (
        diagnosis.cpu(METAL, governor, NONE, MODEL),
        diagnosis.dram(governor, NONE),
    ):
        assert finding.state == "modelled"
        assert "SIMULATED" in finding.detail


def test_without_any_counter_the_model_is_named_with_its_uncertainty() -> None:
    found = diagnosis.cpu(VIRTUAL, SILENT, NONE, MODEL)
    assert (found.state, found.detail) == (
        "modelled",
        "model of CPU load: A CPU, 10 W idle to 50 W, ± 40 %; watts: a table, 2026",
    )
    assert found.why is not None
    assert "virtual machine" in found.why
    assert found.fix is not None


def test_a_cpu_limit_below_the_cpus_is_named_where_the_model_heeds_it() -> None:
    half = diagnosis.cpu(METAL, SILENT, NONE, MODEL, 0.5)
    more = diagnosis.cpu(METAL, SILENT, NONE, MODEL, 4.0)
    cgroup = diagnosis.cgroup(facts.Cgroup("/a", "/sys/fs/cgroup/a", 0.5))

    assert half.detail.endswith("; billed from the 0.5 of 4 CPUs that may be used")
    assert "CPUs" not in more.detail
    assert cgroup.detail == "/sys/fs/cgroup/a, limit 0.5 CPUs"


def test_a_model_that_is_off_models_nothing() -> None:
    found = diagnosis.cpu(METAL, SILENT, NONE, None)

    assert found.state == "unavailable"
    assert found.why is not None
    assert "model is off" in found.why


def test_the_doctors_watts_are_those_that_are_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name, value in (("CPU_IDLE_W", "7"), ("CPU_LOAD_W", "70")):
        monkeypatch.setenv(f"CARBON_OPS_{name}", value)
    given = facts.model()
    monkeypatch.setenv("CARBON_OPS_MODEL", "off")

    assert given is not None
    assert (given.idle_w, given.load_w) == (7.0, 70.0)
    assert given.source == "given by CARBON_OPS_CPU_LOAD_W"
    assert facts.model() is None
    monkeypatch.setenv("CARBON_OPS_MODEL", "maybe")
    assert facts.model() is not None


def test_counters_that_root_alone_may_read_call_for_the_governor() -> None:
    found = diagnosis.cpu(METAL, SILENT, DENIED, MODEL)
    assert found.state == "modelled"
    assert found.fix is not None
    assert "carbon_ops.governor.daemon" in found.fix


def test_counters_that_this_process_reads_itself_are_measured() -> None:
    direct = facts.Counters(("p0", "p0/dram"), None, True)
    assert diagnosis.cpu(METAL, SILENT, direct, MODEL).state == "measured"
    assert diagnosis.dram(SILENT, direct).state == "measured"


def test_memory_without_a_counter_is_unavailable_not_modelled() -> None:
    assert diagnosis.dram(SILENT, NONE).state == "unavailable"
    assert diagnosis.dram(serving("rapl_msr", zone("p", "package")), NONE).state == (
        "unavailable"
    )


@pytest.mark.parametrize(
    ("group", "command"),
    [
        (facts.Group(False, False, False, "ada", False), "groupadd"),
        (facts.Group(True, False, False, "ada", False), "usermod -aG carbon-users ada"),
        (facts.Group(True, True, False, "ada", False), "newgrp"),
    ],
)
def test_a_denied_socket_names_the_step_that_is_missing(
    group: facts.Group, command: str
) -> None:
    denied = SILENT._replace(reason="permission_denied", message="denied")
    for finding in (
        diagnosis.socket(denied, group, DENIED),
        diagnosis.membership(group),
    ):
        assert finding.state == "unavailable"
        assert finding.fix is not None
        assert command in finding.fix


def test_a_missing_governor_is_no_breakage_but_one_that_hangs_is() -> None:
    assert not diagnosis.socket(SILENT, MEMBER, NONE).broken
    assert diagnosis.socket(
        SILENT._replace(reason="stale", message="silent"), MEMBER, NONE
    ).broken


def test_strict_wants_cpu_energy_measured_and_nothing_broken() -> None:
    good = Finding("measured", "")
    absent = Finding("unavailable", "no device", "none")

    def ok(cpu: Finding, gpu: Finding) -> bool:
        return diagnosis.strict_ok({diagnosis.CPU: cpu, "gpu": gpu})

    assert ok(good, absent)
    assert not ok(good, absent._replace(broken=True))
    assert not ok(good._replace(state="modelled"), absent)
    assert not diagnosis.strict_ok({})


def test_a_gpu_that_a_driver_hides_is_told_from_none() -> None:
    none = diagnosis.gpu("nvidia", facts.Gpus(False, (), False, None, ""))
    dead = diagnosis.gpu("nvidia", facts.Gpus(True, (), False, "driver lost", "x"))
    old = diagnosis.gpu("nvidia", facts.Gpus(True, ("K80",), False, None, ""))
    new = diagnosis.gpu("nvidia", facts.Gpus(True, ("A100",), True, None, ""))
    assert (none.state, none.broken) == ("unavailable", False)
    assert (dead.state, dead.broken, dead.why) == ("unavailable", True, "driver lost")
    assert (old.state, new.state) == ("unavailable", "measured")


def test_energy_filtering_says_what_is_known() -> None:
    governor = serving("rapl_msr", zone("p", "package"))
    assert governor.layout is not None
    details = []
    for filtered in (None, False, True):
        layout = governor.layout._replace(filtered=filtered)
        details.append(diagnosis.filtering(governor._replace(layout=layout)).detail)
    assert details == ["not known", "off: counters are exact", "on"]
    assert diagnosis.filtering(SILENT).detail == "not known"
    pretended = serving("simulated", zone("p", "package"))
    assert pretended.layout is not None
    pretended = pretended._replace(layout=pretended.layout._replace(filtered=False))
    assert diagnosis.filtering(pretended).detail == "not known"


def test_the_other_parts_say_what_is_missing_and_what_brings_it() -> None:
    missing = [
        diagnosis.signing(facts.Signing(False, "/keys", 0)),
        diagnosis.live(False, ()),
        diagnosis.cgroup(facts.Cgroup("/x", None)),
        diagnosis.msr(METAL, (False, False)),
        diagnosis.idle([]),
    ]
    for finding in missing:
        assert finding.state == "unavailable"
        assert finding.why
        assert finding.fix
    present = [
        diagnosis.signing(facts.Signing(True, "/keys", 2)),
        diagnosis.live(True, ("A_KEY",)),
        diagnosis.cgroup(facts.Cgroup("/x", "/sys/fs/cgroup/x")),
        diagnosis.msr(METAL, (True, True)),
        diagnosis.idle([Idle("h", "k", "rapl_msr", "2026-01-02T", 30, 12, 2, 0.1, 1)]),
        diagnosis.settings({"region": Setting("DE", "CARBON_OPS_REGION")}),
    ]
    assert {finding.state for finding in present} == {"available"}


def test_a_check_that_fails_is_a_finding_with_the_errors_own_hint() -> None:
    ours = diagnosis.failed(ConfigError("unknown", hint="Did you mean?"))
    assert (ours.state, ours.fix, ours.broken) == ("unavailable", "Did you mean?", True)
    other = diagnosis.failed(ZeroDivisionError("by zero"))
    assert other.why == "ZeroDivisionError: by zero"
