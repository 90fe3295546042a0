"""Turn measured runs into Markdown tables. Pure: no clock, no files."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks.side_by_side.peers import PEERS, TASK_MODES

Run = dict[str, Any]
MACHINE_COLUMNS = {"two_sockets": "two sockets", "wraps": "across wraps"}
TASK_COLUMNS = {
    "neighbour": "beside a busy neighbour",
    "children": "short children",
    "coroutine": "coroutine",
}
COST_COLUMNS = {
    "import_cpu_ms": "import, CPU [ms]",
    "start_ms": "start [ms]",
    "block_ms": "an empty block [ms]",
    "stop_ms": "stop [ms]",
    "steady_cpu_percent": "while it measures, CPU [% of a core]",
    "memory_mib": "memory [MiB]",
}
TASK_LABELS = {
    label
    for peer in PEERS.values()
    for mode, label in peer.variants.items()
    if mode in TASK_MODES
}


def number(value: float, sign: bool = False) -> str:
    """Return ``value`` with about three digits, without an exponent."""
    size = abs(value)
    places = 3 if size < 0.005 else 2 if size < 10 else 1 if size < 100 else 0
    text = f"{size:,.{places}f}"
    if not text.strip("0."):
        return "0"
    return ("−" if value < 0 else "+" if sign else "") + text


def spread(values: Sequence[float], sign: bool = False, unit: str = "") -> str:
    """Return the median, and in brackets the range."""
    low, middle, high = min(values), statistics.median(values), max(values)
    text = number(middle, sign) + unit
    if len(values) > 1 and number(low, sign) != number(high, sign):
        text += f" ({number(low, sign)} … {number(high, sign)})"
    return text


def cell(runs: Sequence[Run], of: Callable[[Run], float | None], unit: str) -> str:
    """Return one cell; failures and missing numbers say so."""
    values = [
        v for v in (of(run) for run in runs if "error" not in run) if v is not None
    ]
    failed = [run["error"] for run in runs if "error" in run]
    if values:
        text = spread(values, sign=unit == " %", unit=unit)
        lost = len(runs) - len(values)
        return f"{text}, {lost} of {len(runs)} without a number" if lost else text
    if failed:
        return f"failed: {failed[0]}".replace("|", "/")
    return "no number" if runs else "–"


def error(run: Run) -> float | None:
    """Return how far the meter's number is from the truth [%]."""
    if run["joules"] is None:
        return None
    return float(100 * (run["joules"] / run["true_j"] - 1))


def fewer_wraps(runs: Sequence[Run], key: str) -> str:
    """Tell a run that was to see four wraps and saw fewer: it started too late."""
    seen = [run["wraps"] for run in runs if "wraps" in run] if key == "wraps" else [4]
    return f", only {min(seen)} of 4 wraps" if min(seen, default=4) < 4 else ""


def cost(key: str) -> Callable[[Run], float | None]:
    def of(run: Run) -> float | None:
        if key == "memory_mib":
            return float(run["memory_kib"]) / 1024
        return None if run.get(key) is None else float(run[key])

    return of


def rows_to_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def errors_table(runs: dict[str, Any], columns: dict[str, str], claims: bool) -> str:
    """Return errors of each meter; with ``claims``, what its number stands for."""
    present = {key: title for key, title in columns.items() if key in runs}
    labels = list(dict.fromkeys(label for key in present for label in runs[key]))
    rows = []
    for label in labels:
        row = [label]
        if claims:
            row.append("the task" if label in TASK_LABELS else "the machine")
        for key in present:
            found = runs[key].get(label, ())
            row.append(cell(found, error, " %") + fewer_wraps(found, key))
        rows.append(row)
    head = ["meter", *(["its number is of"] if claims else []), *present.values()]
    return rows_to_table(head, rows)


def cost_table(result: Run) -> str:
    rows = []
    for label, runs in result["runs"]["cost"].items():
        name = label.split(",")[0]
        about = result["meters"].get(name, {})
        row = [label]
        row += [cell(runs, cost(key), "") for key in COST_COLUMNS]
        row += [str(about.get("packages", "–")), str(about.get("megabytes", "–"))]
        rows.append(row)
        if any("governor_cpu_percent" in run for run in runs):
            governor = [{
                "steady_cpu_percent": run["governor_cpu_percent"],
                "memory_kib": run["governor_memory_kib"],
            } for run in runs if "governor_cpu_percent" in run]  # fmt: skip
            cells = ["–"] * len(COST_COLUMNS)
            cells[4] = cell(governor, cost("steady_cpu_percent"), "")
            cells[5] = cell(governor, cost("memory_mib"), "")
            rows.append(["*governor, one per host*", *cells, "–", "–"])
    head = ["meter", *COST_COLUMNS.values(), "packages", "megabytes"]
    return rows_to_table(head, rows)


def on(about: Run) -> str:
    """Tell the machine."""
    return (
        f"On {about['cpus']} CPUs ({about['cpu']}), Linux {about['kernel']}, "
        f"Python {about['python']}."
    )


def when(result: Run, keys: Iterable[str]) -> str:
    """Tell when, at which commit, beside what load and how often."""
    taken = [result["taken"][key] for key in keys if key in result["runs"]]
    counts = [len(r) for key in keys for r in result["runs"].get(key, {}).values()]
    return moments(taken) + f" Median of {max(counts)} runs, range in brackets.\n"


def moments(taken: Sequence[Run]) -> str:
    places = dict.fromkeys(f"{t['date']} at commit `{t['commit']}`" for t in taken)
    loads = [load for t in taken for load in t["loads"]]
    return (
        f"Measured {' and '.join(places)}, beside a load average of "
        f"{min(loads)} to {max(loads)}."
    )


def side_by_side(result: Run) -> str:
    """Return the Markdown of a result of :func:`benchmarks.side_by_side.run.measure`."""
    if result["skipped"]:
        return f"Skipped: no virtual host on this machine: {result['skipped']}.\n"
    about, runs = result["machine"], result["runs"]
    parts = [f"{on(about)}\n"]
    if any(key in runs for key in MACHINE_COLUMNS):
        parts.append("### The host's energy: error against the truth\n")
        parts.append(when(result, MACHINE_COLUMNS))
        parts.append(errors_table(runs, MACHINE_COLUMNS, claims=False))
    if any(key in runs for key in TASK_COLUMNS):
        parts.append("### A task's energy: error against the truth\n")
        parts.append(when(result, TASK_COLUMNS))
        parts.append(errors_table(runs, TASK_COLUMNS, claims=True))
    if "cost" in runs:
        parts.append("### What the meter itself takes\n")
        parts.append(when(result, ("cost",)))
        parts.append(cost_table(result))
    parts.append("### Versions and settings\n")
    rows = []
    for name, found in result["meters"].items():
        version = found.get("version") or f"not installed: {found['failed']}"
        rows.append([name, version, PEERS[name].settings])
    parts.append(rows_to_table(["meter", "version", "settings"], rows))
    return "\n".join(parts)


def own(result: Run) -> str:
    """Return the Markdown of a result of :func:`benchmarks.own.measure`."""
    parts = [
        f"{on(result['machine'])} {moments([run['taken'] for run in result['scripts']])} Short runs: more rounds "
        "give steadier numbers.\n"
    ]
    for run in result["scripts"]:
        command = " ".join(["python", f"benchmarks/{run['script']}", *run["arguments"]])
        missed = f"\nExit status {run['status']}.\n" if run["status"] else ""
        parts.append(
            f"### {run['title']}\n\n`{command}`\n\n```text\n{run['output']}\n```\n{missed}"
        )
    return "\n".join(parts)
