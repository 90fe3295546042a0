"""What every counter source offers: raw hardware ticks, zone by zone."""

from __future__ import annotations

from typing import Protocol

from carbon_ops.model import SourceName, Zone


class Source(Protocol):
    """Counters that this process may read itself.

    Made by :func:`carbon_ops.sources.open.open_source`.
    """

    @property
    def name(self) -> SourceName: ...

    @property
    def zones(self) -> tuple[Zone, ...]: ...

    @property
    def filtered(self) -> bool | None:
        """RAPL energy filtering (MSR 0xBC); ``None``: cannot be known."""

    def read(self) -> tuple[int | None, ...]:
        """Return one reading per zone [ticks], ``None`` for a read that failed."""

    def changed(self) -> bool:
        """Return whether zones vanished or appeared, so that a restart is due."""

    def close(self) -> None: ...
