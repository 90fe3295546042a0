"""The project's other benchmarks, with settings short enough to run them all."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any, NamedTuple

from benchmarks.side_by_side.run import machine, moment, say
from benchmarks.virtual_host.host import ROOT


class Script(NamedTuple):
    """A benchmark of one part."""

    title: str
    script: str
    arguments: tuple[str, ...] = ()


SCRIPTS = (
    Script(
        "Accuracy of windows of energy",
        "counter_accuracy.py",
        ("--seconds", "60", "--windows", "1000"),
    ),
    Script("Energy of short spans", "short_spans.py"),
    Script("Accuracy of shares of energy", "attribution_accuracy.py"),
    Script("One reading of eight zones", "counter_reading.py", ("--rounds", "15")),
    Script("What measuring costs the measured program", "meter_cost.py"),
    Script("What the governor costs", "governor_cost.py", ("--seconds", "20")),
    Script(
        "The governor's rate on a busy machine",
        "governor_cost.py",
        ("--rate", "--seconds", "60"),
    ),
    Script(
        "A scrape of 300 processes and containers",
        "export_cost.py",
        ("--scrapes", "5", "--rest", "15"),
    ),
    Script("Watching top with 300 processes", "top_cost.py"),
    Script("Estimates", "estimate.py"),
    Script(
        "Appending to a ledger",
        "ledger_append.py",
        ("--records", "1000000", "--rounds", "3"),
    ),
    Script(
        "Verifying a ledger",
        "ledger_verify.py",
        ("--records", "200000", "--rounds", "1"),
    ),
    Script("Web and training integrations", "integrations.py", ("--calls", "4000")),
    Script("Size of an installation", "install_size.py"),
)


def measure(names: list[str]) -> dict[str, Any]:
    """Run the scripts whose file names start with one of ``names``; all if empty."""
    result: dict[str, Any] = {"schema": "carbon-ops/own-benchmarks/1"}
    result["machine"], result["scripts"] = machine(), []
    for title, script, arguments in SCRIPTS:
        if names and not script.startswith(tuple(names)):
            continue
        say(f"run {script} {' '.join(arguments)}")
        taken = moment()
        ran = subprocess.run(
            [sys.executable, os.path.join(ROOT, "benchmarks", script), *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        taken["loads"].append(round(os.getloadavg()[0], 1))
        if ran.returncode and not ran.stdout:
            say(ran.stderr)
        result["scripts"].append(
            {
                "title": title,
                "script": script,
                "arguments": list(arguments),
                "taken": taken,
                "status": ran.returncode,
                "output": ran.stdout.rstrip() or ran.stderr.strip()[-500:],
            }
        )
    return result
