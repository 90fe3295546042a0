"""The tables say what the runs say, and the page what the stored results say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from benchmarks import __main__ as command
from benchmarks import own
from benchmarks.side_by_side import table
from benchmarks.side_by_side.peers import PEERS, TASK_MODES
from benchmarks.virtual_host.host import ROOT

RUN = {"joules": 110.0, "true_j": 100.0}


@pytest.mark.parametrize("name", ["side-by-side", "own"])
def test_the_page_is_what_the_renderer_makes_of_the_stored_result(name: str) -> None:
    page = Path(command.PAGE).read_text(encoding="utf-8")
    text = command.RENDER[name](command.saved(name))
    assert command.with_part(page, name, text) == page


def test_a_page_without_the_part_is_an_error() -> None:
    with pytest.raises(ValueError, match="no part own"):
        command.with_part("nothing here", "own", "text")


def test_a_cell_is_the_median_and_the_range_of_the_errors() -> None:
    runs = [{**RUN, "joules": joules} for joules in (85.0, 100.1, 300.0)]
    assert table.cell(runs, table.error, " %") == "+0.10 % (−15.0 … +200)"


def test_a_worse_result_and_a_missing_one_stay() -> None:
    nothing: list[dict[str, Any]] = [{**RUN, "joules": None}]
    assert table.cell(nothing, table.error, " %") == "no number"
    assert table.cell([{"error": "x | y"}], table.error, " %") == "failed: x / y"
    both: list[dict[str, Any]] = [{"error": "broke"}, RUN]
    found = table.cell(both, table.error, " %")
    assert found == "+10.0 %, 1 of 2 without a number"


def test_a_small_error_is_not_printed_as_none() -> None:
    assert table.number(0.0021) == "0.002"
    assert table.number(-0.0021, sign=True) == "−0.002"
    assert table.number(12_345.6) == "12,346"


def test_a_skipped_run_says_why() -> None:
    assert "needs root" in table.side_by_side({"skipped": "needs root"})


def test_every_meter_and_mode_is_in_the_stored_result() -> None:
    result = command.saved("side-by-side")
    assert set(result["meters"]) == set(PEERS)
    for name, peer in PEERS.items():
        if "failed" in result["meters"][name]:
            continue
        for mode, label in peer.variants.items():
            where = "neighbour" if mode in TASK_MODES else "two_sockets"
            assert len(result["runs"][where][label]) >= 1
    assert json.dumps(result)


def test_a_script_measured_alone_leaves_the_results_of_the_others() -> None:
    former = command.saved("own")
    names = [script["script"] for script in former["scripts"]]
    again = {**former["scripts"][1], "output": "new"}
    merged = command.merged(former, {**former, "scripts": [again]})
    assert [script["script"] for script in merged["scripts"]] == names
    assert merged["scripts"][1]["output"] == "new"
    assert merged["scripts"][0] == former["scripts"][0]


def test_every_script_of_the_project_has_a_stored_result() -> None:
    stored = [script["script"] for script in command.saved("own")["scripts"]]
    assert stored == [script.script for script in own.SCRIPTS]


def test_the_page_on_wrapping_tells_what_short_spans_measured() -> None:
    outputs = {s["script"]: s["output"] for s in command.saved("own")["scripts"]}
    percent = dict(re.findall(r"([\d.]+) s +([\d.]+)%", outputs["short_spans.py"]))
    page = Path(ROOT, "docs/explanation/wrapping-and-aliasing.md").read_text()
    told = re.findall(r"([\d.]+) % at ([\d.]+) s", page)
    assert len(told) == 4
    for figure, length in told:
        assert figure == percent[length]
