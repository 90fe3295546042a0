"""A failure at every system call of a flush, a seal, an opening and a repair.

The old state or the new one, the truth about which, and a ledger that goes on afterwards.
Needs a C compiler for ``failpoint.c``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
COMPILER = shutil.which("cc")
SCENARIOS = (
    "append",
    "unsigned",
    "seal",
    "hand_over",
    "open_and_append",
    "open_pending",
    "open_torn",
)

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler for the shim")


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert COMPILER is not None
    library = tmp_path_factory.mktemp("shim") / "failpoint.so"
    source = HERE / "failpoint.c"
    subprocess.run(
        [COMPILER, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True
    )
    return library


@pytest.mark.parametrize("failure", ["EIO", "ENOSPC", "EROFS", "KILL", "KILL_AFTER"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_failure_at_any_call_leaves_the_old_state_or_the_new(
    tmp_path: Path, shim: Path, scenario: str, failure: str
) -> None:
    run = subprocess.run(
        [
            sys.executable,
            HERE / "ledger_failpoints.py",
            shim,
            scenario,
            failure,
            tmp_path,
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "LD_PRELOAD": str(shim)},
    )
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout.splitlines()[-1])

    assert told["found"] == []
    assert told["points"] >= 15, "the shim was not asked"
