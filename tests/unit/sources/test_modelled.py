"""The model of CPU load: whose watts it takes, and how unsure it says it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from carbon_ops import EnergyLogger
from carbon_ops.data import cpu
from carbon_ops.errors import InvalidInputError
from carbon_ops.model import Metric
from carbon_ops.sources import modelled

KNOWN = "Intel(R) Core(TM) i7-8700K CPU @ 3.70GHz"


@pytest.fixture(autouse=True)
def no_counters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither counters nor settings of the machine that runs the tests."""
    for name in ("CPU_IDLE_W", "CPU_LOAD_W", "MODEL"):
        monkeypatch.delenv(f"CARBON_OPS_{name}", raising=False)
    monkeypatch.setenv("CARBON_OPS_POWERCAP_ROOT", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)


def processor(
    name: str,
    patch: pytest.MonkeyPatch,
    *,
    virtual: bool = False,
    ids: cpu.Ids | None = None,
) -> None:
    """Give this host two processors ``name``."""
    patch.setattr(modelled, "processor", lambda: (name, virtual, ids))
    patch.setattr(modelled, "packages", lambda: 2)


def measured(cpu_watts: tuple[float, float] | None = None) -> Metric:
    with EnergyLogger(socket="/nonexistent/s", cpu_watts=cpu_watts) as logger:
        sum(range(300_000))
        return logger.log_metrics("x")


def host_w(metric: Metric) -> float:
    joules = metric["energy"]["host"]["total_j"]
    assert joules is not None
    return joules / metric["duration_s"]


def test_a_known_processor_is_unsure_by_40_percent_and_its_watts_have_a_source(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    processor(KNOWN, monkeypatch)
    model = modelled.of_this_host(12)
    energy = measured()["energy"]
    part = energy["components"]["cpu"]

    assert (model.load_w, model.known) == (2 * 95.0, True)
    assert model.source.startswith("thermal design power")
    assert model.source.endswith(", 2026")
    assert part["j"] is not None
    assert part["uncertainty_j"] == pytest.approx(0.4 * part["j"])
    assert "cpu_unknown" not in energy["quality"]["flags"]


@pytest.mark.parametrize(
    ("name", "virtual"),
    [("A CPU of next year", False), (KNOWN, True)],
    ids=["unknown", "part-of-one"],
)
def test_an_unknown_processor_is_unsure_by_60_percent_and_flagged(
    monkeypatch: pytest.MonkeyPatch, name: str, virtual: bool
) -> None:
    processor(name, monkeypatch, virtual=virtual)
    model = modelled.of_this_host(12)
    energy = measured()["energy"]
    part = energy["components"]["cpu"]

    assert (model.load_w, model.known) == (cpu.generic(12).max_w, False)
    assert model.source.startswith("median per thread of")
    assert part["j"] is not None
    assert part["uncertainty_j"] == pytest.approx(0.6 * part["j"])
    assert "cpu_unknown" in energy["quality"]["flags"]


def test_a_part_of_a_measured_server_has_its_threads_part_of_the_watts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz"
    processor(name, monkeypatch, virtual=True)
    whole = cpu.watts(name)

    assert whole is not None
    assert modelled.of_this_host(32).load_w == pytest.approx(whole.max_w / 4)


def test_the_users_watts_are_the_arguments_then_the_environments_then_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The same at rest and at full load: then the host's energy is known exactly.
    local = tmp_path / "carbon-ops.toml"
    local.write_text("cpu_idle_w = 20\ncpu_load_w = 20\n")
    assert host_w(measured()) == pytest.approx(20.0, rel=1e-3)
    monkeypatch.setenv("CARBON_OPS_CPU_IDLE_W", "30")
    monkeypatch.setenv("CARBON_OPS_CPU_LOAD_W", "30")
    assert host_w(measured()) == pytest.approx(30.0, rel=1e-3)
    assert host_w(measured((50.0, 50.0))) == pytest.approx(50.0, rel=1e-3)
    with pytest.raises(InvalidInputError, match="at rest and at full load"):
        measured((50.0, 40.0))


def test_power_is_a_line_between_rest_and_full_load() -> None:
    model = modelled.CpuModel("a", 10.0, 50.0, 0.4, True, "a table, 2026")
    second = 1_000_000_000
    at = [model.energy(second, n * second, 4)[1] for n in (0, 1, 2, 4, 9)]

    assert at == [10_000_000, 20_000_000, 30_000_000, 50_000_000, 50_000_000]


# What /proc/cpuinfo says on real machines, as far as it is read; then the ground of the
# watts on a host with 8 CPUs and one package.
CPUINFO = {
    "intel-by-name": (
        """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 106
model name\t: Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz
stepping\t: 6
flags\t\t: fpu vme hypervisor
""",
        "package power of AWS servers, Davy, Teads Engineering, 2021",
        8 * 611.1 / 128,
    ),
    "intel-vm-without-a-number": (
        """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 85
model name\t: Intel(R) Xeon(R) CPU @ 2.80GHz
stepping\t: 7
flags\t\t: fpu hypervisor
""",
        "(cascade lake), 2026",
        8 * 3.73,
    ),
    "amd-on-metal": (
        """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 1
model name\t: AMD EPYC 7763 64-Core Processor
stepping\t: 1
flags\t\t: fpu vme
""",
        "thermal design power, CodeCarbon's collection of vendors' lists, 2026",
        280.0,
    ),
    "amd-in-part": (
        """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 1
model name\t: AMD EPYC 7763 64-Core Processor
stepping\t: 1
flags\t\t: fpu vme hypervisor
""",
        "(zen 3), 2026",
        8 * 1.83,
    ),
    "arm-server": (
        """processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
CPU revision\t: 1
""",
        "(neoverse n1), 2026",
        8 * 1.92,
    ),
    "arm-board": (
        """processor\t: 0
CPU implementer\t: 0x41
CPU architecture: 8
CPU part\t: 0xd08
CPU revision\t: 3
""",
        "median per thread of package power",
        8 * 4.98,
    ),
    "vm-that-says-nothing": (
        "processor\t: 0\nmodel name\t: \nflags\t\t: hypervisor\n",
        "median per thread of package power",
        8 * 4.98,
    ),
    "nonsense": (
        "vendor_id\t: GenuineIntel\ncpu family\t: six\nmodel\t: 85\n\xff\xfe\n",
        "median per thread of package power",
        8 * 4.98,
    ),
    "no-file": (None, "median per thread of package power", 8 * 4.98),
}


@pytest.mark.parametrize("name", CPUINFO)
def test_the_watts_are_the_models_then_the_microarchitectures_then_typical(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    text, source, load_w = CPUINFO[name]
    info = tmp_path / "cpuinfo"
    if text is not None:
        # A second processor says something else and is not asked.
        info.write_text(text + "\nprocessor\t: 1\nmodel name\t: i9-9900K\n")
    seen = modelled.processor(str(info))
    monkeypatch.setattr(modelled, "processor", lambda: seen)
    monkeypatch.setattr(modelled, "packages", lambda: 1)

    model = modelled.of_this_host(8)

    assert source in model.source
    assert model.load_w == pytest.approx(load_w)
    assert 0 < model.idle_w < model.load_w
    assert model.known == (not source.startswith("median per thread"))
    assert model.cv == (0.4 if model.known else 0.6)


def test_name_and_hypervisor_come_from_the_first_processors_entry(
    tmp_path: Path,
) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(
        "processor\t: 0\nmodel name\t: One CPU\nflags\t\t: fpu hypervisor\n\n"
        "processor\t: 1\nmodel name\t: Another\nflags\t\t: fpu\n"
    )
    assert modelled.processor(str(info)) == ("One CPU", True, None)
    # ARM has no name here.
    info.write_text("processor\t: 0\nFeatures\t: fp\n\nmodel name\t: A board\n")
    assert modelled.processor(str(info)) == ("unknown", False, None)
    assert modelled.processor(str(tmp_path / "none")) == ("unknown", False, None)


def test_packages_are_counted_once_however_many_processors_they_have(
    tmp_path: Path,
) -> None:
    for number in range(4):
        topology = tmp_path / f"cpu{number}" / "topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text(f"{number // 2}\n")
    (tmp_path / "cpu4").mkdir()  # offline
    (tmp_path / "cpufreq").mkdir()

    assert modelled.packages(str(tmp_path)) == 2
    assert modelled.packages(str(tmp_path / "none")) == 1
