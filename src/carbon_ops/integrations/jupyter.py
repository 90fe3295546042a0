"""Energy of notebook cells: ``%load_ext carbon_ops``, then ``%%energy``.

A cell that begins with ``%%energy`` runs as if that line were not there (its names, its
output, its errors, top-level ``await``) and its energy is shown below it. A name after
``%%energy`` is what the cell is called. ``%energy`` alone shows the totals so far.

What this cannot know
    What a cell leaves running (threads, background tasks) is counted to whatever is
    measured while it runs. Several notebooks on one host share its idle energy. A cell
    shorter than 0.3 s is too short for counters sampled at 10 Hz: its joules are shown
    with the large uncertainty that they have.
"""

from __future__ import annotations

from html import escape
from typing import Any

from carbon_ops.integrations.figures import SHORT_S, figures, origin, spoken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carbon_ops.meter.logger import EnergyLogger
    from carbon_ops.meter.span import Span

MAGIC = "%%energy"


def named(cell: str) -> str | None:
    """Return what a measured cell is called, None for a cell that is not measured.

    >>> named("%%energy fit\\nmodel.fit()"), named("%%energy\\n1"), named("1")
    ('fit', 'cell', None)
    """
    word, _, name = cell.lstrip("\n").split("\n", 1)[0].partition(" ")
    return (name.strip() or "cell") if word.rstrip() == MAGIC else None


def stripped(lines: list[str]) -> list[str]:
    """Return the lines of a cell without the magic, for IPython's transformers."""
    if named("".join(lines)) is None:
        return lines
    at = next(i for i, line in enumerate(lines) if line.strip())
    return [*lines[:at], *lines[at + 1 :]] or ["\n"]


class Report:
    """The energy of one cell, as text and as HTML."""

    def __init__(self, span: Span) -> None:
        metric = span.metric
        if metric is None:
            raise AssertionError("a report is made of a span that has ended")
        energy = metric["energy"]
        self.figures = figures(metric, span.estimate)
        joules = spoken(energy["energy_j_total"], energy["uncertainty_j"])
        parts = [joules, f"{metric['duration_s']:.2f} s", origin(metric)]
        if "energy_gco2e" in self.figures:
            low, high = (self.figures[f"energy_gco2e_{end}"] for end in ("low", "high"))
            grams = self.figures["energy_gco2e"]
            parts.insert(1, f"{grams:.2g} gCO2e ({low:.2g} to {high:.2g})")
        if metric["duration_s"] < SHORT_S:
            parts.append(f"shorter than {SHORT_S} s: uncertain")
        self._name, self._text = span.operation, " · ".join(parts)

    def __repr__(self) -> str:
        return f"{self._name}: {self._text}"

    def _repr_html_(self) -> str:
        return f"<b>{escape(self._name)}</b>: {escape(self._text)}"


class Cells:
    """Measures the cells of one IPython shell."""

    def __init__(self, shell: Any, logger: EnergyLogger) -> None:
        self._shell, self._logger = shell, logger
        self._span: Span | None = None

    def before(self, info: Any) -> None:
        name = named(info.raw_cell or "")
        if name is not None and self._span is None:
            self._span = self._logger.span(name).begin()

    def after(self, result: Any) -> None:
        span, self._span = self._span, None
        if span is None:
            return
        span.end(status="ok" if getattr(result, "success", True) else "error")
        self._shell.display_pub.publish(
            {
                "text/plain": repr(report := Report(span)),
                "text/html": report._repr_html_(),
            }
        )

    def totals(self, line: str) -> None:
        """``%energy``: what the measured cells used so far."""
        for name, found in self._logger.summary().items():
            joules, u = found["joules"], found["joules_u"]
            text = (
                f"{spoken(joules, u)}, {found['calls']} calls, {found['seconds']:.2f} s"
            )
            print(f"{name}: {text}")  # noqa: T201 - what a line magic does


def load_ipython_extension(shell: Any, logger: EnergyLogger | None = None) -> None:
    """Add ``%%energy`` and ``%energy`` to an IPython shell; twice is fine."""
    if getattr(shell, "_carbon_ops_cells", None) is not None:
        return
    if logger is None:
        from carbon_ops.meter.logger import EnergyLogger

        logger = EnergyLogger()
    cells = Cells(shell, logger)
    shell._carbon_ops_cells = cells
    shell.input_transformers_cleanup.insert(0, stripped)
    shell.events.register("pre_run_cell", cells.before)
    shell.events.register("post_run_cell", cells.after)
    shell.register_magic_function(cells.totals, "line", "energy")


def unload_ipython_extension(shell: Any) -> None:
    """Take away what loading added."""
    cells: Cells | None = getattr(shell, "_carbon_ops_cells", None)
    if cells is None:
        return
    shell._carbon_ops_cells = None
    shell.input_transformers_cleanup.remove(stripped)
    shell.events.unregister("pre_run_cell", cells.before)
    shell.events.unregister("post_run_cell", cells.after)
    shell.magics_manager.magics["line"].pop("energy", None)
