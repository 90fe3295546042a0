"""How much power a processor draws idle and busy, for the model of CPU load.

Used only where no counter is readable. Four grounds, best first: the figures of a server
with that very processor; the manufacturer's thermal design power, with the idle share
that those servers show; the median per thread of the servers of its microarchitecture;
for an unknown processor, the median per thread of all servers of the first table. A
virtual machine sees some threads of a processor: scale by ``threads``.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from carbon_ops.data.tables import load


class CpuWatts(NamedTuple):
    """Power of a processor at rest and at full load, package(s) only."""

    idle_w: float
    max_w: float
    threads: int | None  # hardware threads behind the two figures; None: unknown
    source: str
    year: str
    match: Literal["server", "tdp", "microarchitecture", "generic"]


# Words that say nothing about which processor it is.
_NOISE = frozenset(("cpu", "processor", "gen", "apu", "soc"))
_ENDS = frozenset(("@", "with", "w/"))  # clock rates and graphics follow


def normalise(model_name: str) -> str:
    """Return a processor's name as the tables spell it: lower case, no decoration.

    >>> normalise("11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz")
    'intel core i7-1165g7'
    >>> normalise("AMD EPYC 7R13 48-Core Processor")
    'amd epyc 7r13'
    """
    text = model_name.lower()
    for mark in ("(r)", "(tm)", "®", "™"):
        text = text.replace(mark, " ")
    words: list[str] = []
    for word in text.replace("+", " ").replace(",", " ").replace("@", " @ ").split():
        if word in _ENDS or word.startswith("("):
            break
        ordinal = word[-2:] in ("st", "nd", "rd", "th") and word[:-2].isdigit()
        if (
            word not in _NOISE
            and not ordinal
            and not word.endswith(("-core", "-cores"))
        ):
            words.append(word)
    return " ".join(words)


def watts(model_name: str) -> CpuWatts | None:
    """Return idle and full power of the processor ``model_name`` of ``/proc/cpuinfo``.

    None where no table knows it; :func:`generic` then says what is typical.

    >>> watts("Intel(R) Core(TM) i7-8700K CPU @ 3.70GHz").max_w
    95.0
    """
    name = normalise(model_name)
    servers = load("cpu_servers")
    row = servers.rows.get(name)
    if row is not None:
        threads, idle, full = row
        return CpuWatts(
            float(idle),
            float(full),
            int(threads),
            servers.meta["source"],
            servers.meta["year"],
            "server",
        )
    table = load("cpu_power")
    row = table.rows.get(name)
    if row is None:
        return None
    tdp = float(row[0])
    idle_w = tdp * float(servers.meta["idle_share"])
    source = table.meta["source"]
    return CpuWatts(idle_w, tdp, None, source, table.meta["year"], "tdp")


class Ids(NamedTuple):
    """How a processor numbers itself, as ``/proc/cpuinfo`` shows it.

    On x86 from CPUID; on ARM implementer, architecture, part and revision.
    """

    vendor: str
    family: int
    model: int
    stepping: int

    def match(self, pattern: str) -> bool:
        """Return whether ``vendor/family/models[/steppings]`` covers this processor.

        >>> Ids("GenuineIntel", 6, 85, 7).match("GenuineIntel/6/85/5-15")
        True
        """
        vendor, family, *ranges = pattern.split("/")
        return (
            vendor == self.vendor
            and int(family) == self.family
            and all(
                int(low) <= number <= int(high or low)
                for number, (low, _, high) in zip(
                    self[2:], (part.partition("-") for part in ranges), strict=False
                )
            )
        )


def by_microarchitecture(ids: Ids) -> CpuWatts | None:
    """Return idle and full power per thread of servers with the same microarchitecture.

    None for one that no published server had; desktop and mobile parts among them.

    >>> by_microarchitecture(Ids("AuthenticAMD", 25, 1, 1)).source[-7:]
    '(zen 3)'
    """
    table = load("cpu_microarchitectures")
    for name, (_, idle, full, patterns) in table.rows.items():
        if any(map(ids.match, patterns.split())):
            return CpuWatts(
                float(idle),
                float(full),
                1,
                f"{table.meta['source']} ({name})",
                table.meta["year"],
                "microarchitecture",
            )
    return None


def generic(threads: int) -> CpuWatts:
    """Return typical power of ``threads`` threads of a processor nobody knows [W]."""
    meta = load("cpu_servers").meta
    return CpuWatts(
        float(meta["idle_w_per_thread"]) * threads,
        float(meta["max_w_per_thread"]) * threads,
        threads,
        "median per thread of " + meta["source"],
        meta["year"],
        "generic",
    )
