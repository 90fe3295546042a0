"""`carbon-ops install-governor`: put the governor where only root can change it.

Copies files of the package that is running, and of nothing else: no package manager, no
index, no network. Only what the privileged process imports is copied.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess  # nosec B404: argument lists, no shell

import click

from carbon_ops.cli import governor_units as units
from carbon_ops.errors import CarbonOpsError

# What carbon_ops.governor.daemon imports: standard library and these.
PARTS = ("counters", "governor", "sources")
MODULES = ("__init__", "clock", "errors", "log", "model", "units")
STARTER = """\
\"\"\"Starts the governor: python3 -I -S THIS_DIRECTORY\"\"\"

from carbon_ops.governor.daemon import main

raise SystemExit(main())
"""
UNITS = ("carbon-governor.socket", "carbon-governor.service")
_PRIVATE = ("/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/")  # nosec B108


class InstallError(CarbonOpsError):
    """The governor cannot be installed like this; nothing was changed."""


@click.command("install-governor")
@click.option(
    "--dry-run", is_flag=True, help="Show what would be done; change nothing."
)
@click.option("--uninstall", is_flag=True, help="Stop it and remove its files.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--rapl-mode",
    type=click.Choice(["sysfs", "msr"]),
    default="sysfs",
    show_default=True,
    help="Which counters the service reads.",
)
@click.option(
    "--socket-group",
    "group",
    default=units.GROUP,
    show_default=True,
    metavar="GROUP",
    help="Name or number of the group whose members may read energy.",
)
@click.option(
    "--python",
    metavar="PATH",
    help="Interpreter for the service; 3.10 or newer, writable by root only.  "
    "[default: /usr/bin/python3]",
)
@click.option(
    "--root",
    default="/",
    metavar="DIR",
    help="Write below DIR and start nothing, as a package build does.",
)
def command(
    dry_run: bool,
    uninstall: bool,
    yes: bool,
    rapl_mode: str,
    group: str,
    python: str | None,
    root: str,
) -> int:
    """Install the governor as a systemd service, from the files of this package.

    Shows every file and every command first, then asks. The service runs as a user of
    its own without any capability; members of the group may read the counters.

    \b
    examples:
      carbon-ops install-governor --dry-run
      sudo carbon-ops install-governor
      sudo carbon-ops install-governor --uninstall

    \b
    exit status:
      0 done, or shown with --dry-run; 2 when it cannot be done; 130 when declined.
    """
    setup = units.Setup(python or units.Setup().python, rapl_mode, _group(group))
    live = os.path.abspath(root) == "/"
    if uninstall:
        writes: dict[str, bytes] = {}
        before = [_systemctl("disable", "--now", *UNITS)] if live else []
        after = [_systemctl("daemon-reload")] if live else []
        removes = [*units.files(setup), units.SYSUSERS, units.MODULES, units.HOME]
    else:
        if live:
            _check_python(setup.python)
        writes = _writes(setup)
        before, removes = [], [units.MODULES, units.HOME]
        after = _starting(setup) if live else []
    removes = [
        path for path in dict.fromkeys(removes) if os.path.lexists(_at(root, path))
    ]
    _show(root, before, removes, writes, after)
    if dry_run:
        return 0
    if live and os.geteuid() != 0:
        raise InstallError(
            "only root can install a service",
            hint="Run `sudo carbon-ops install-governor`, or look with --dry-run.",
        )
    if not yes:
        click.confirm("Go ahead?", abort=True, err=True)
    for words in before:
        subprocess.run(words, check=False)  # nosec B603: fixed words
    _change(root, removes, writes)
    for words in after:
        if subprocess.run(words, check=False).returncode != 0:  # nosec B603
            raise InstallError(
                f"`{' '.join(words)}` failed; the files are in place",
                hint="Look at `systemctl status carbon-governor`, and at `carbon-ops "
                "doctor` for what this machine can count.",
            )
    if uninstall:
        click.echo(f"removed; the group {setup.group} stays", err=True)
    elif live:
        click.echo(
            f"installed; add users with `usermod -aG {setup.group} USER`", err=True
        )
    return 0


def _group(name: str) -> str:
    """Return ``name`` if it can stand in a unit file."""
    if name and name.isascii() and all(c.isalnum() or c in "_-" for c in name):
        return name
    raise InstallError(f"{name!r} is not the name or number of a group")


def _check_python(path: str) -> None:
    """Refuse an interpreter that others could replace, or that is too old."""
    if not os.path.isabs(path) or any(c.isspace() for c in path):
        raise InstallError(f"--python has to be an absolute path, got {path!r}")
    real = os.path.realpath(path)
    if (real + "/").startswith(_PRIVATE):
        raise InstallError(
            f"{real} is in a private directory, which the service cannot see",
            hint="Name the system's interpreter with --python.",
        )
    where = real
    while True:
        try:
            found = os.stat(where)
        except OSError as error:
            raise InstallError(
                f"cannot use {path}: {error.strerror}",
                hint="Name an interpreter of 3.10 or newer with --python.",
            ) from error
        if found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise InstallError(
                f"{where} can be changed by others than root",
                hint="A service must not run it; name another with --python.",
            )
        if where == "/":
            break
        where = os.path.dirname(where)
    asked = "import sys; sys.exit(sys.version_info < (3, 10))"
    done = subprocess.run(  # nosec B603: a path that only root can change
        [path, "-I", "-S", "-c", asked], check=False, timeout=60
    )
    if done.returncode != 0:
        raise InstallError(
            f"{path} is older than Python 3.10",
            hint="Name a newer interpreter with --python.",
        )


def _writes(setup: units.Setup) -> dict[str, bytes]:
    """Return path and content of every file to write."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    names = [f"{name}.py" for name in MODULES]
    for part in PARTS:
        names += [
            f"{part}/{name}"
            for name in sorted(os.listdir(os.path.join(package, part)))
            if name.endswith(".py")
        ]
    found = {f"{units.HOME}/__main__.py": STARTER.encode()}
    for name in names:
        with open(os.path.join(package, name), "rb") as file:
            found[f"{units.HOME}/carbon_ops/{name}"] = file.read()
    found.update((path, text.encode()) for path, text in units.files(setup).items())
    return found


def _starting(setup: units.Setup) -> list[list[str]]:
    words = [
        [setup.python, "-I", "-S", "-m", "compileall", "-q", units.HOME],
        ["systemd-tmpfiles", "--create", "/etc/tmpfiles.d/carbon-ops.conf"],
        _systemctl("daemon-reload"),
        _systemctl("enable", *UNITS),
        _systemctl("restart", *UNITS),
    ]
    if not setup.group.isdigit():
        words.insert(1, ["systemd-sysusers", units.SYSUSERS])
    if setup.rapl_mode == "msr":
        words.insert(0, ["modprobe", "msr"])
    return words


def _systemctl(*words: str) -> list[str]:
    return ["systemctl", *words]


def _at(root: str, path: str) -> str:
    return os.path.join(root, path.lstrip("/"))


def _show(
    root: str,
    before: list[list[str]],
    removes: list[str],
    writes: dict[str, bytes],
    after: list[list[str]],
) -> None:
    """Print the plan, in the order in which it will be carried out."""
    for words in before:
        click.echo(f"run     {' '.join(words)}")
    for path in removes:
        click.echo(f"remove  {_at(root, path)}")
    for path, content in writes.items():
        click.echo(f"write   {_at(root, path)} ({len(content)} bytes)")
    for words in after:
        click.echo(f"run     {' '.join(words)}")


def _change(root: str, removes: list[str], writes: dict[str, bytes]) -> None:
    try:
        for path in removes:
            target = _at(root, path)
            if os.path.isdir(target) and not os.path.islink(target):
                shutil.rmtree(target)
            else:
                os.unlink(target)
        before = os.umask(0o022)
        try:
            for path, content in writes.items():
                _write(_at(root, path), content)
        finally:
            os.umask(before)
    except OSError as error:
        raise InstallError(
            f"cannot change {error.filename}: {error.strerror}",
            hint="The installation is incomplete; run it again or with --uninstall.",
        ) from error


def _write(path: str, content: bytes) -> None:
    """Write a file beside and move it into place; never through a link."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    beside = f"{path}.new"
    if os.path.lexists(beside):
        os.unlink(beside)
    number = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with os.fdopen(number, "wb") as file:
        file.write(content)
    os.replace(beside, path)
