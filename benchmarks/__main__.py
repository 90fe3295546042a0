"""Run the benchmarks and print Markdown tables.

Usage: python -m benchmarks [side-by-side | own] [options]

  side-by-side  carbon-ops beside other meters on the same virtual counters with known
                truth. Needs root, /dev/fuse and mount namespaces; where the machine
                can't, it says so and skips. Installs each meter from the package index
                into its own virtual environment in ~/.cache/carbon-ops-bench.
  own           what the parts of carbon-ops cost, each with short settings

Without a name both run, in about twenty minutes. With --save the results are written to
benchmarks/results and into docs/explanation/benchmarks.md.

exit status: 0 also where something was skipped; 1 if an own benchmark missed its limits.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from functools import partial
from typing import Any

from benchmarks import own
from benchmarks.side_by_side import run, table
from benchmarks.side_by_side.peers import PEERS
from benchmarks.virtual_host.host import ROOT

RESULTS = os.path.join(ROOT, "benchmarks", "results")
PAGE = os.path.join(ROOT, "docs", "explanation", "benchmarks.md")
RENDER = {"side-by-side": table.side_by_side, "own": table.own}


def marks(name: str) -> tuple[str, str]:
    """Return the lines around a generated part of the page."""
    return f"<!-- begin {name} -->\n", f"<!-- end {name} -->\n"


def with_part(page: str, name: str, text: str) -> str:
    """Return ``page`` with the generated part ``name`` replaced."""
    begin, end = marks(name)
    before, found, rest = page.partition(begin)
    _, also, after = rest.partition(end)
    if not (found and also):
        raise ValueError(f"no part {name} in the page")
    return f"{before}{begin}\n{text}\n{end}{after}"


def saved(name: str) -> dict[str, Any]:
    """Return the committed result."""
    with open(os.path.join(RESULTS, f"{name}.json"), encoding="utf-8") as file:
        result: dict[str, Any] = json.load(file)
    return result


def write_page() -> None:
    """Render the committed results into the documentation."""
    with open(PAGE, encoding="utf-8") as file:
        page = file.read()
    for name, render in RENDER.items():
        if os.path.exists(os.path.join(RESULTS, f"{name}.json")):
            page = with_part(page, name, render(saved(name)))
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write(page)


def save(name: str, result: dict[str, Any]) -> None:
    """Store a result; what was not measured now, on the same machine, is kept."""
    if os.path.exists(os.path.join(RESULTS, f"{name}.json")):
        former = saved(name)
        if former["machine"] == result["machine"]:
            result = merged(former, result)
    os.makedirs(RESULTS, exist_ok=True)
    with open(os.path.join(RESULTS, f"{name}.json"), "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1, ensure_ascii=False)
        file.write("\n")


def merged(former: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """Return ``result`` with the scenarios and scripts that only ``former`` has."""
    result = dict(result)
    for part in {"meters", "runs", "taken"} & set(result):
        result[part] = former[part] | result[part]
    if "scripts" in result:
        found = {run["title"]: run for run in (*former["scripts"], *result["scripts"])}
        known = (script.title for script in own.SCRIPTS)
        result["scripts"] = [found[title] for title in known if title in found]
    return result


def listed(text: str) -> list[str]:
    return [item for item in text.split(",") if item]


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=argparse.SUPPRESS,
    )
    parser.add_argument("which", nargs="?", choices=["side-by-side", "own", "page"],
                        help="default: both; page only renders the saved results anew")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=2, help="runs of each (2)")
    parser.add_argument("--meters", default=",".join(PEERS), help="default: all")
    parser.add_argument(
        "--scenarios", default=",".join(run.SCENARIOS), help="default: all"
    )
    parser.add_argument(
        "--scripts", default="", help="own: first letters of their names"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, not Markdown")
    parser.add_argument(
        "--save", action="store_true", help="keep and document the result"
    )
    return parser


def main() -> int:
    parser = arguments()
    given = parser.parse_args()
    for name, known in (("meters", PEERS), ("scenarios", run.SCENARIOS)):
        unknown = set(listed(getattr(given, name))) - set(known)
        if unknown:
            parser.error(f"unknown {name}: {', '.join(sorted(unknown))}")
    if given.which == "page":
        write_page()
        return 0
    # What was started is ended, and temporary folders go, on a plain kill too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    results: dict[str, dict[str, Any]] = {}
    if given.which in (None, "side-by-side"):
        results["side-by-side"] = run.measure(
            *(listed(given.meters), listed(given.scenarios), given.rounds),
            partial(save, "side-by-side") if given.save else lambda _: None,
        )
    if given.which in (None, "own"):
        results["own"] = own.measure(listed(given.scripts))
        if given.save:
            save("own", results["own"])
    if given.save:
        write_page()
    if given.json:
        print(json.dumps(results, ensure_ascii=False))
    else:
        print("\n".join(f"## {n}\n\n{RENDER[n](r)}" for n, r in results.items()))
    scripts = results.get("own", {}).get("scripts", [])
    return int(any(script["status"] for script in scripts))


if __name__ == "__main__":
    sys.exit(main())
