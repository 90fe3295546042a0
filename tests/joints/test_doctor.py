"""``doctor`` and the settings: where each comes from, and which cannot be used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(name="env")
def _env(tmp_path: Path) -> dict[str, str]:
    """The environment of a host where no governor runs."""
    return {
        **os.environ,
        "CARBON_OPS_SOCKET": str(tmp_path / "nobody.sock"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "CARBON_OPS_REGION": "DE",
    }


def cli(
    env: dict[str, str], *argv: str, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``carbon-ops`` with ``argv``."""
    return subprocess.run(
        [sys.executable, "-m", "carbon_ops", *argv],
        env=env,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_doctor_shows_settings_with_their_origin_and_refuses_unknown_ones(
    env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "carbon-ops.toml").write_text('policy = "excluded"\n')
    done = cli(env, "doctor", "--config", "--json", cwd=tmp_path)
    settings = json.loads(done.stdout)["settings"]
    assert settings["region"] == {"value": "DE", "origin": "CARBON_OPS_REGION"}
    assert settings["policy"]["origin"].endswith("carbon-ops.toml")
    (tmp_path / "carbon-ops.toml").write_text('regoin = "DE"\n')
    bad = cli(env, "doctor", "--config", cwd=tmp_path)
    assert bad.returncode == 2
    assert "region" in bad.stderr
    assert cli(env, "doctor", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ('region = "ZZ"', "region (./carbon-ops.toml): unknown region 'ZZ'"),
        ('scope = "zz"', "scope (./carbon-ops.toml): unknown scope 'zz'"),
        ("cpu_idle_w = 5", "cpu_load_w (default): the model needs watts"),
    ],
)
def test_doctor_finds_a_setting_that_no_command_could_use(
    env: dict[str, str], tmp_path: Path, setting: str, complaint: str
) -> None:
    del env["CARBON_OPS_REGION"]
    (tmp_path / "carbon-ops.toml").write_text(setting)
    done = cli(env, "doctor", "--config", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr
    assert complaint in cli(env, "doctor", cwd=tmp_path).stdout


def test_doctor_names_the_argument_and_shows_no_secret(env: dict[str, str]) -> None:
    for name in ("WATTTIME_USER", "WATTTIME_PASSWORD", "ELECTRICITYMAPS_KEY"):
        env[f"CARBON_OPS_{name}"] = "hunter2"
    shown = [
        cli(env, "doctor", *more)
        for more in ((), ("--json",), ("--config",), ("--config", "--json"))
    ]
    assert not any("hunter2" in one.stdout + one.stderr for one in shown)
    done = cli(env, "doctor", "--config", "--json", "--socket", "/x.sock")
    found = json.loads(done.stdout)["settings"]["socket"]
    assert found == {"value": "/x.sock", "origin": "argument"}
