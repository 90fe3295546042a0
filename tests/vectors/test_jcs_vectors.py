"""The published vectors of RFC 8785, byte for byte."""

from __future__ import annotations

import importlib.util
import itertools
import json
import struct
from hashlib import sha256
from pathlib import Path

import pytest

from carbon_ops.ledger.canonical import dumps, number

FOLDER = Path(__file__).parent / "jcs"
NAMES = sorted(path.stem for path in (FOLDER / "input").glob("*.json"))

# Number of lines: SHA-256 of that many lines of the ES6 number file, as published.
PUBLISHED = {
    1_000: "be18b62b6f69cdab33a7e0dae0d9cfa869fda80ddc712221570f9f40a5878687",
    10_000: "b9f7a8e75ef22a835685a52ccba7f7d6bdc99e34b010992cbc5864cd12be6892",
    100_000: "22776e6d4b49fa294a0d0f349268e5c28808fe7e0cb2bcbe28f63894e494d4c7",
    1_000_000: "49415fee2c56c77864931bd3624faad425c3c577d6d74e89a83bc725506dad16",
}

# RFC 8785, appendix B: IEEE 754 word, JSON number.
APPENDIX_B = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}


@pytest.mark.parametrize("name", NAMES)
def test_every_published_document_comes_out_byte_for_byte(name: str) -> None:
    value = json.loads((FOLDER / "input" / f"{name}.json").read_bytes())

    assert dumps(value) == (FOLDER / "output" / f"{name}.json").read_bytes()


def test_there_are_six_published_documents() -> None:
    assert NAMES == ["arrays", "french", "structures", "unicode", "values", "weird"]


@pytest.mark.parametrize(("word", "text"), APPENDIX_B.items())
def test_numbers_print_as_appendix_b_says(word: str, text: str) -> None:
    assert number(struct.unpack(">d", bytes.fromhex(word))[0]) == text


def test_a_million_es6_numbers_have_the_published_hashes() -> None:
    where = importlib.util.spec_from_file_location("es6_lines", FOLDER / "es6_lines.py")
    assert where is not None
    assert where.loader is not None
    es6 = importlib.util.module_from_spec(where)
    where.loader.exec_module(es6)

    digest, found = sha256(), {}
    for count, line in enumerate(itertools.islice(es6.lines(), max(PUBLISHED)), 1):
        digest.update(line)
        if count in PUBLISHED:
            found[count] = digest.hexdigest()

    assert found == PUBLISHED
