"""Energy units of RAPL counters: from microjoules back to the register's own ticks.

The hardware register holds 32 bits of ticks. The kernel multiplies by a unit and rounds
down, so ``energy_uj`` is not the register, and masking *microjoules* to 32 bits loses or
invents energy at every wrap. Here the ticks are recovered exactly; everything that wraps
is done on ticks. Arithmetic only.

Sources
    Linux ``drivers/powercap/intel_rapl_common.c``: ``energy_uj = ticks * unit // 1000``
    with an integer unit in nJ, and ``max_energy_range_uj`` the same of ``0xffffffff``.
    Older kernels multiplied by ``10**6`` and shifted by the energy status unit.
    Intel SDM vol. 3B, "RAPL Interfaces": energy status is bits 31:0 of the register.
"""

from __future__ import annotations

from typing import NamedTuple

REGISTER_TICKS = 1 << 32
NJ_PER_UJ = 1_000


class Unit(NamedTuple):
    """How many microjoules one tick stands for, as a fraction, and where it wraps."""

    numerator: int
    denominator: int
    wrap_ticks: int


# Nothing is known about where it wraps: 2**63 µJ are 292,000 years at 1 W, so every
# decrease implies a power above any bound and is judged a reset. The ring's fields have
# 64 bits.
ENDLESS = Unit(1, 1, 1 << 63)


def unit_of_range(max_range_uj: int) -> Unit:
    """Return the unit behind a zone's ``max_energy_range_uj`` [µJ].

    Three shapes are known: an integer number of nJ per tick (kernels since 2013), and
    exactly ``2**-esu`` J per tick (older ones). A range of neither shape counts single
    microjoules and wraps after ``max_range_uj``. Without a range, or with one beyond
    that: :data:`ENDLESS`.

    >>> unit_of_range(262_143_328_850)
    Unit(numerator=61035, denominator=1000, wrap_ticks=4294967296)
    >>> unit_of_range(262_143_999_938)
    Unit(numerator=1000000, denominator=16384, wrap_ticks=4294967296)
    >>> unit_of_range(1_000_000)
    Unit(numerator=1, denominator=1, wrap_ticks=1000001)
    """
    if not 0 < max_range_uj < ENDLESS.wrap_ticks:
        return ENDLESS
    top = REGISTER_TICKS - 1
    # Rounded to the nearest integer without a float: 53 bits do not hold the range.
    unit_nj = (2 * NJ_PER_UJ * max_range_uj + top) // (2 * top)
    if unit_nj > 0 and top * unit_nj // NJ_PER_UJ == max_range_uj:
        return Unit(unit_nj, NJ_PER_UJ, REGISTER_TICKS)
    for esu in range(32):  # the field has five bits
        if top * 1_000_000 >> esu == max_range_uj:
            return Unit(1_000_000, 1 << esu, REGISTER_TICKS)
    return Unit(1, 1, max_range_uj + 1)


def ticks_of(energy_uj: int, unit: Unit) -> int:
    """Return the ticks that the kernel turned into ``energy_uj`` [µJ].

    Exact where a tick is at least 1 µJ: the kernel's floor leaves one candidate.

    >>> ticks_of(1_000_000 * 61_035 // 1000, unit_of_range(262_143_328_850))
    1000000
    """
    return -(-energy_uj * unit.denominator // unit.numerator)
