"""Numbers in the summary are readable and never a false zero."""

from __future__ import annotations

import pytest

from carbon_ops.cli.measurement import number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1e-9, "1.00e-09"),
        (0.000123, "0.000123"),
        (0.5, "0.5"),
        (12.345, "12.3"),
        (99.96, "100"),
        (123.4, "123"),
        (1_234_567.0, "1,234,567"),
    ],
)
def test_three_digits_at_any_size(value: float, text: str) -> None:
    assert number(value) == text
