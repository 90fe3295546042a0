"""Importing and measuring load neither a framework nor anything that pip installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import carbon_ops

PACKAGE = Path(carbon_ops.__file__).parent
STEPS = {
    "import": "import carbon_ops",
    "logger": "from carbon_ops import EnergyLogger; EnergyLogger().log_metrics('step')",
    "span": "import carbon_ops\nwith carbon_ops.span('step'): pass",
    "track": "from carbon_ops import track\n@track\ndef f(): pass\nf()",
}
# What was loaded beside the standard library and this package.
LOADED = """
import json, sys
before = set(sys.modules)
{step}
names = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(json.dumps(sorted(names - sys.stdlib_module_names - {{"carbon_ops", "__main__"}})))
"""


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_nothing_of_others_is_loaded(step: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(step=step)],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == []


def test_each_integration_names_its_framework_inside_functions_only(
    tmp_path: Path,
) -> None:
    """All integrations together; pytest's is for pytest, which has loaded itself."""
    names = [
        path.stem
        for path in (PACKAGE / "integrations").glob("[a-z]*.py")
        if path.stem != "pytest_plugin"
    ]
    assert len(names) >= 10
    step = "\n".join(f"import carbon_ops.integrations.{name}" for name in names)
    test_nothing_of_others_is_loaded(step, tmp_path)


def test_the_check_notices_what_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="click"):
        test_nothing_of_others_is_loaded("import carbon_ops, click", tmp_path)
