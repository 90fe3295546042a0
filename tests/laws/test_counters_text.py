"""Laws of reading: whatever a file holds, it is a number of the counter or a failure."""

from __future__ import annotations

import os
import tempfile

from hypothesis import given
from hypothesis import strategies as st

from carbon_ops.errors import SourceUnavailableError
from carbon_ops.sources.msr_units import parse_cpuinfo
from carbon_ops.sources.powercap import PowercapSource
from carbon_ops.testing.powercap import FakePowercap

TOP_UJ = 262_143_328_850
texts = st.one_of(
    st.binary(max_size=40),
    st.integers(-10, 2 * TOP_UJ).map(lambda n: b"%d\n" % n),
    st.integers(0, TOP_UJ).map(lambda n: b"%d" % n),
    st.from_regex(rb"[0-9 _+.e\n-]{0,20}", fullmatch=True),
)


@given(script=st.lists(texts, min_size=1, max_size=20))
def test_any_text_is_a_value_in_range_or_a_failed_read(script: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as base:
        fake = FakePowercap(base)
        fake.add("intel-rapl:0", "package-0")
        source = PowercapSource(fake.root)
        path = os.path.join(fake.root, "intel-rapl:0", "energy_uj")
        for text in script:
            with open(path, "wb") as file:
                file.write(text)
            (ticks,) = source.read()
            digits = text[:-1].strip() if text[-1:] == b"\n" else b""
            if digits.isdigit() and int(digits) <= TOP_UJ:
                assert ticks is not None
                assert ticks * 61_035 // 1000 <= int(digits) + 61
                assert 0 <= ticks < 2**32
            else:
                assert ticks is None
        source.close()


@given(
    text=st.text(max_size=200) | st.from_regex(r"(processor|physical id|model)\s?: \d+")
)
def test_a_cpuinfo_that_is_none_raises_the_packages_own_error(text: str) -> None:
    try:
        cpu = parse_cpuinfo(text)
    except SourceUnavailableError:
        return
    assert cpu.vendor
