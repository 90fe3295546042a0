"""``%%energy`` in a real Jupyter kernel."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

BURN = """
import time
end = time.process_time() + 0.35
while time.process_time() < end: pass
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))

    def run(*cells: str, allow_errors: bool = False) -> list[Any]:
        """Return the outputs of ``cells``, run after the extension was loaded."""
        book = nbformat.v4.new_notebook()
        book.cells = [
            nbformat.v4.new_code_cell(cell) for cell in ("%load_ext carbon_ops", *cells)
        ]
        client = nbclient.NotebookClient(
            book, timeout=100, kernel_name="python3", allow_errors=allow_errors
        )
        client.execute(cwd=str(tmp_path))
        assert not book.cells[0].outputs
        return [cell.outputs for cell in book.cells[1:]]

    return run


def shown(outputs: list[Any]) -> dict[str, str]:
    """Return the energy that is displayed below a cell."""
    found = [o.data for o in outputs if o.output_type == "display_data"]
    assert len(found) == 1
    return dict(found[0])


def test_a_measured_cell_is_an_ordinary_cell_with_its_energy_below(
    run: Callable[..., list[Any]],
) -> None:
    measured, named, plain, totals = run(
        f"%%energy\n{BURN}\nx = 41\nx + 1",
        "%%energy <fit>\nprint(x)",
        "x",
        "%energy",
    )
    assert [o.data["text/plain"] for o in measured if o.output_type == "execute_result"] == ["42"]  # fmt: skip
    text = shown(measured)["text/plain"]
    assert re.match(r"cell: [\d.]+ ± [\d.]+ J · [\d.]+ s · counter simulated$", text)
    assert shown(named)["text/html"].startswith("<b>&lt;fit&gt;</b>: ")
    assert shown(named)["text/plain"].endswith("shorter than 0.3 s: uncertain")
    assert [o.output_type for o in plain] == ["execute_result"]
    assert {line.split(":")[0] for line in totals[0].text.splitlines()} == {"cell", "<fit>"}  # fmt: skip


def test_await_works_and_errors_are_the_cells_own(
    run: Callable[..., list[Any]],
) -> None:
    awaited, failed, after = run(
        "%%energy\nimport asyncio\nawait asyncio.sleep(0.01)\n'done'",
        "%%energy\n1 / 0",
        "%unload_ext carbon_ops\n%load_ext carbon_ops\n1",
        allow_errors=True,
    )
    assert "J" in shown(awaited)["text/plain"]
    errors = [o for o in failed if o.output_type == "error"]
    assert [e.ename for e in errors] == ["ZeroDivisionError"]
    assert shown(failed)["text/plain"].startswith("cell: ")
    assert [o.output_type for o in after] == ["execute_result"]


def test_names_of_cells() -> None:
    from carbon_ops.integrations.jupyter import named, stripped

    assert named("\n%%energy two words\n1") == "two words"
    assert named("%%energyx\n1") is None
    assert named("1\n%%energy") is None
    assert stripped(["\n", "%%energy\n", "1\n"]) == ["\n", "1\n"]
    assert stripped(["%%energy"]) == ["\n"]
    assert stripped(["1\n"]) == ["1\n"]
