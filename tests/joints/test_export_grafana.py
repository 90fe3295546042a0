"""Every query of the dashboard names series that are exported, with labels they have."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from carbon_ops.export import table
from carbon_ops.export.table import Instrument

PATH = Path(__file__).parents[2] / "packaging" / "grafana" / "carbon-ops.json"
DASHBOARD = json.loads(PATH.read_text())
PANELS: list[dict[str, Any]] = [p for p in DASHBOARD["panels"] if p["type"] != "row"]
QUERIES = [
    (panel["id"], target["expr"], target["legendFormat"])
    for panel in PANELS
    for target in panel["targets"]
]
BY_NAME: dict[str, Instrument] = {}
for row in table.TABLE:
    ends = ("_bucket", "_sum", "_count") if row.kind == "histogram" else ("",)
    BY_NAME |= {row.native + end: row for end in ends}
OF_PROMETHEUS = {"job", "instance"}
METRIC = re.compile(r"\b(?:hw|carbon_ops)_\w+(?=\{)")


@pytest.mark.parametrize(
    ("number", "query", "legend"), QUERIES, ids=range(len(QUERIES))
)
def test_a_query_finds_something(number: int, query: str, legend: str) -> None:
    del number
    names = METRIC.findall(query)
    assert names
    assert set(names) <= set(BY_NAME)
    labels = OF_PROMETHEUS | {label for name in names for label in BY_NAME[name].labels}
    if any(name.endswith("_bucket") for name in names):
        labels.add("le")
    asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", query))
    for group in re.findall(r"\bby \(([^)]*)\)", query):
        asked |= {label.strip() for label in group.split(",")}
    asked |= set(re.findall(r"\{\{(\w+)\}\}", legend))
    assert asked <= labels


def test_the_dashboard_shows_all_that_there_is() -> None:
    used = {BY_NAME[n].native for _, query, _ in QUERIES for n in METRIC.findall(query)}
    assert used == {row.native for row in table.TABLE}


def test_panels_do_not_overlap_and_have_numbers_of_their_own() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(
        DASHBOARD["panels"]
    )
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (at["x"] + dx, at["y"] + dy)
            for dx in range(at["w"])
            for dy in range(at["h"])
        }
        assert at["x"] + at["w"] <= 24
        assert not cells & taken
        taken |= cells


def test_variables_are_made_from_what_is_exported() -> None:
    variables = {v["name"]: v for v in DASHBOARD["templating"]["list"]}
    assert set(variables) == {"datasource", "job", "instance"}
    for name in ("job", "instance"):
        (metric,) = re.findall(r"carbon_ops_\w+", variables[name]["query"]["query"])
        assert metric in BY_NAME


@pytest.mark.skipif(
    not shutil.which("promtool"), reason="promtool is not installed here"
)
def test_promtool_takes_every_query(tmp_path: Path) -> None:
    fill = {"$__rate_interval": "1m", "$__range": "1h", "$job": ".*", "$instance": ".*"}
    rules = []
    for number, (_, query, _) in enumerate(QUERIES):
        for word, value in fill.items():
            query = query.replace(word, value)
        assert "$" not in query
        rules.append({"record": f"panel:query_{number}", "expr": query})
    file = tmp_path / "rules.json"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
