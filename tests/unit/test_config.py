"""Settings: which place wins, and what a mistake gets told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from carbon_ops import EnergyLogger
from carbon_ops.config import KEYS, load
from carbon_ops.errors import ConfigError


def places(tmp_path: Path) -> tuple[dict[str, str], str, Path, Path]:
    user = tmp_path / "home" / "carbon-ops" / "config.toml"
    user.parent.mkdir(parents=True)
    here = tmp_path / "here"
    here.mkdir()
    return (
        {"XDG_CONFIG_HOME": str(tmp_path / "home")},
        str(here),
        user,
        here / "carbon-ops.toml",
    )


def test_the_nearer_place_wins_and_is_named(tmp_path: Path) -> None:
    environ, folder, user, local = places(tmp_path)
    assert load(environ, folder)["region"] == (None, "default")
    user.write_text('region = "DE"\nhistory = 7\n')
    assert load(environ, folder)["region"] == ("DE", str(user))
    local.write_text('region = "FR"\n')
    assert load(environ, folder)["region"] == ("FR", str(local))
    environ["CARBON_OPS_REGION"] = "GB"
    settings = load(environ, folder)

    assert settings["region"] == ("GB", "CARBON_OPS_REGION")
    assert settings["history"] == (7, str(user))


def test_numbers_in_the_environment_are_numbers(tmp_path: Path) -> None:
    environ, folder, _, _ = places(tmp_path)
    environ.update(CARBON_OPS_IDLE_W="12.5", CARBON_OPS_HISTORY="3")
    settings = load(environ, folder)

    assert settings["idle_w"].value == 12.5
    assert settings["history"].value == 3


@pytest.mark.parametrize(
    ("text", "complaint", "hint"),
    [
        ('regoin = "DE"', "unknown setting 'regoin'", "region"),
        ('zzzz = "DE"', "unknown setting 'zzzz'", "Known settings"),
        ("region = 3", "region must be text", ""),
        ('region = ""', "region is empty", "Leave it out"),
        ("policy = excluded", "line 1", 'region = "DE"'),
        ('policy = "fair"', "policy is 'fair'", "proportional"),
        ("idle_w = -1", "idle_w must be a number", ""),
        ("idle_w = nan", "idle_w must be a number", ""),
        ("idle_w = true", "idle_w must be a number", ""),
        ('history = "1e400"', "history must be a whole number", ""),
        ("region = ", "carbon-ops.toml", "TOML"),
        ("x = " + "[" * 30_000, "carbon-ops.toml", "TOML"),
        ("\ufeffregion = 'DE'", "carbon-ops.toml", "TOML"),
        ("REGION = 'DE'", "unknown setting 'REGION'", "region"),
        ("[region]\na = 1", "region must be text", ""),
        ("history = 2.7", "history must be a whole number", ""),
        ("history = inf", "history must be a whole number", ""),
        ("history = " + "9" * 4_000, "history must be a whole number", ""),
        ("history = " + "9" * 9_000, "carbon-ops.toml", "TOML"),
        ("history = [1]", "history must be a whole number", ""),
        ("idle_w = 1979-05-27", "idle_w must be a number", ""),
        ("cpu_load_w = inf", "cpu_load_w must be a number", ""),
        ("region = 'D\\E'\nregion = 'F'", "carbon-ops.toml", "TOML"),
        ("# " + "x" * 70_000, "larger than", ""),
    ],
)
def test_a_mistake_in_a_file_is_an_error_that_helps(
    tmp_path: Path, text: str, complaint: str, hint: str
) -> None:
    environ, folder, _, local = places(tmp_path)
    local.write_text(text)

    with pytest.raises(ConfigError, match=complaint) as caught:
        load(environ, folder)
    assert hint in caught.value.hint


def test_a_slip_in_a_variable_is_told_and_other_variables_are_let_be(
    tmp_path: Path,
) -> None:
    environ, folder, _, _ = places(tmp_path)
    environ["CARBON_OPS_LEDGER_KEY"] = "/k"
    environ["CARBON_OPS_WATTTIME_PASSWORD"] = "x"
    load(environ, folder)
    environ["CARBON_OPS_REGOIN"] = "DE"

    with pytest.raises(ConfigError, match="CARBON_OPS_REGOIN") as caught:
        load(environ, folder)
    assert "CARBON_OPS_REGION" in caught.value.hint


def test_a_slip_in_a_secrets_name_is_told_and_what_kubernetes_sets_is_let_be(
    tmp_path: Path,
) -> None:
    environ, folder, _, _ = places(tmp_path)
    environ.update(CARBON_OPS_PORT="tcp://10.0.0.1:80", CARBON_OPS_SERVICE_HOST="x")
    load(environ, folder)
    environ["CARBON_OPS_LEDGERKEY"] = "hidden"

    with pytest.raises(ConfigError, match="CARBON_OPS_LEDGERKEY") as caught:
        load(environ, folder)
    assert "'CARBON_OPS_LEDGER_KEY'" in caught.value.hint
    assert "hidden" not in str(caught.value) + caught.value.hint


def test_an_empty_variable_is_not_set(tmp_path: Path) -> None:
    environ, folder, _, local = places(tmp_path)
    local.write_text('region = "FR"\n')
    environ["CARBON_OPS_REGION"] = ""
    assert load(environ, folder)["region"] == ("FR", str(local))


def test_a_folder_in_place_of_the_file_is_an_error_not_a_crash(tmp_path: Path) -> None:
    environ, folder, _, local = places(tmp_path)
    local.mkdir()

    with pytest.raises(ConfigError, match="cannot read"):
        load(environ, folder)


def test_the_logger_takes_what_the_argument_does_not_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ, folder, _, local = places(tmp_path)
    local.write_text('model = "off"\nhistory = 2\npolicy = "excluded"\n')
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CONFIG_HOME", environ["XDG_CONFIG_HOME"])
    logger = EnergyLogger(socket="/nonexistent/s", policy="proportional")
    energy = logger.log_metrics("x")["energy"]

    assert logger.metrics.maxlen == 2
    assert energy["policy"] == "proportional"
    assert energy["components"]["cpu"]["reason"] == "model_off"


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("HISTORY", "2.0"),
        ("HISTORY", "9" * 5_000),
        ("IDLE_W", "nan"),
        ("IDLE_W", "12 W"),
        ("IDLE_W", "\udcff"),  # bytes that are no text
        ("POLICY", "\udcff"),
        ("MODEL", "ON"),
    ],
    ids=str.lower,
)
def test_garbage_in_the_environment_is_an_error_that_names_it(
    tmp_path: Path, variable: str, text: str
) -> None:
    environ, folder, _, _ = places(tmp_path)
    environ[f"CARBON_OPS_{variable}"] = text

    with pytest.raises(ConfigError, match=f"CARBON_OPS_{variable}") as caught:
        load(environ, folder)
    str(caught.value).encode()  # can be printed
    assert len(str(caught.value)) < 200


def test_a_pipe_in_place_of_the_file_is_not_waited_for(tmp_path: Path) -> None:
    environ, folder, _, local = places(tmp_path)
    os.mkfifo(local)
    assert load(environ, folder)["region"] == (None, "default")


def test_every_setting_says_what_it_is() -> None:
    assert all(key.help for key in KEYS.values())


LEFT_ROOT = """
import os, sys
from carbon_ops.config import load
if os.geteuid() == 0:
    os.setuid(65_534)
assert load({"HOME": sys.argv[1]}, folder="/")["region"].origin == "default"
"""


def test_a_home_that_is_somebody_elses_holds_no_settings(tmp_path: Path) -> None:
    """As for a service that was started by root and changed its user."""
    home = tmp_path / "home"
    folder = home / ".config" / "carbon-ops"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text('region = "DE"\n')
    folder.chmod(0o700 if os.geteuid() == 0 else 0)  # closed to whoever reads it
    home.chmod(0o700)
    try:
        command = [sys.executable, "-c", LEFT_ROOT, str(home)]
        subprocess.run(command, check=True, timeout=100)
    finally:
        folder.chmod(0o700)
