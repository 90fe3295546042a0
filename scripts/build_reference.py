#!/usr/bin/env python3
"""Write the reference pages that follow from the code: API, commands, settings, statuses.

    python scripts/build_reference.py           # write docs/reference/*.md
    python scripts/build_reference.py --check   # exit 1 if one of them is out of date

Texts come from docstrings, click commands and `carbon_ops.config.KEYS`, nowhere else.
"""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click

import carbon_ops
from carbon_ops import errors
from carbon_ops.cli.main import cli
from carbon_ops.config import KEYS, LOCAL_FILE, PREFIX
from carbon_ops.estimate.record import CarbonRecord
from carbon_ops.ledger.report import Report
from carbon_ops.meter.span import Span

PAGES = Path(__file__).resolve().parents[1] / "docs" / "reference"
NOTE = "<!-- Written by scripts/build_reference.py; change the code instead. -->\n\n"
ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):`~?([^`]+)`")
WIDTH = 84  # of a page's blocks of code
EXIT = re.compile(r"^ *exit status:? *", re.IGNORECASE | re.MULTILINE)


def text_of(value: object) -> str:
    """Return a docstring as Markdown: roles become code, sections become headings."""
    text = ROLE.sub(r"`\1`", inspect.getdoc(value) or "").replace("``", "`")
    out: list[str] = []
    for block in re.split(r"\n\n+", text):
        first, _, rest = block.partition("\n")
        if first in ("Args:", "Returns:", "Raises:", "Attributes:"):
            out.append(f"*{first[:-1]}*\n\n" + "\n".join(_items(rest, first)))
        elif block.startswith(">>>") or block.startswith("    "):
            out.append(f"```pycon\n{inspect.cleandoc(block)}\n```")
        else:
            out.append(block)
    return "\n\n".join(out)


def _items(text: str, kind: str) -> Iterator[str]:
    lines = inspect.cleandoc("x\n" + text).splitlines()[1:]
    entry = ""
    for line in lines:
        if line.startswith("  ") or (kind == "Returns:" and entry):
            entry += " " + line.strip()
        else:
            if entry:
                yield entry
            name, colon, rest = line.partition(": ")
            plain = colon and kind != "Returns:"
            entry = f"- `{name}`: {rest}" if plain else f"- {line}"
    if entry:
        yield entry


def signature(name: str, value: object) -> str:
    if not callable(value):
        return name
    try:
        found = str(inspect.signature(value))
    except ValueError:
        return name
    found = re.sub(r"\(self(, )?", "(", found)
    found = re.sub(r"(: |-> |= )([\"'])(.*?)\2(?=[,)]| =|$)", _unquoted, found)
    found = re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Z])", "", found)
    return name + found if len(name + found) <= WIDTH else name + _one_a_line(found)


def _one_a_line(found: str) -> str:
    """Return ``(a, b) -> c`` with a line for each parameter."""
    depth, out = 0, ""
    for at, char in enumerate(found):
        depth += (char in "([{") - (char in ")]}")
        if char == ")" and depth == 0:
            return f"{out}\n{found[at:]}"
        out += char
        if depth == 1 and char in "(,":
            out += "\n   " if char == "," else "\n    "
    return out


def _unquoted(match: re.Match[str]) -> str:
    """Return an annotation without quotes, a default with them."""
    return match[1] + (f"'{match[3]}'" if match[1] == "= " else match[3])


def members(kind: type) -> Iterator[tuple[str, object]]:
    for name, value in vars(kind).items():
        if not name.startswith("_") and inspect.getdoc(value):
            if isinstance(value, (staticmethod, classmethod)):
                yield name, value.__func__
            elif inspect.isfunction(value) or isinstance(value, property):
                yield name, value


def api() -> str:
    out = ["# Python API\n", NOTE, "Import these from `carbon_ops`.\n"]
    kinds: list[tuple[str, object]] = [
        (name, getattr(carbon_ops, name))
        for name in carbon_ops.__all__
        if not name.startswith("_")
    ]
    for name, value in [
        *kinds,
        *((k.__name__, k) for k in (Span, CarbonRecord, Report)),
    ]:
        out.append(f"\n## {name}\n\n```text\n{signature(name, value)}\n```\n")
        out.append(text_of(value) + "\n")
        if not isinstance(value, type):
            continue
        for inner, member in members(value):
            called = member.fget if isinstance(member, property) else member
            title = inner if isinstance(member, property) else signature(inner, called)
            out.append(f"\n### {name}.{inner}\n\n```text\n{title}\n```\n")
            out.append(text_of(member) + "\n")
    return "\n".join(out)


def commands(
    command: click.Command, path: tuple[str, ...]
) -> Iterator[tuple[str, str, click.Command]]:
    context = click.Context(command, info_name=" ".join(path), max_content_width=88)
    context.terminal_width = 88
    yield " ".join(path), command.get_help(context), command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                yield from commands(inner, (*path, name))


def governor_help() -> str:
    done = subprocess.run(
        [sys.executable, "-m", "carbon_ops.governor.daemon", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"COLUMNS": "88"},
    )
    return done.stdout


def all_help() -> list[tuple[str, str]]:
    found = [(name, text) for name, text, _ in commands(cli, ("carbon-ops",))]
    return [*found, ("carbon-governor", governor_help())]


def command_page() -> str:
    out = ["# Commands\n", NOTE]
    for name, text in all_help():
        out.append(f"\n## {name}\n\n```text\n{text.rstrip()}\n```\n")
    return "\n".join(out)


def statuses() -> str:
    out = [
        "# Exit statuses\n",
        NOTE,
        "A failure prints `carbon-ops:`, what failed, and on the next line what to do, on "
        "standard\nerror, without a traceback. 130 is an interrupt (`Ctrl-C`), 143 a "
        "SIGTERM, 141 an output\nthat nobody reads any more.\n",
        "\n## Errors\n\n| error | status | meaning |\n|---|---|---|",
    ]
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.CarbonOpsError):
            says = (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ")
            out.append(f"| `{name}` | {kind.exit_code} | {says} |")
    for name, text in all_help():
        where = EXIT.search(text)
        if where is None:
            continue
        said = text[where.end() :]
        end = re.search(r"\n\s*\n", said)
        body = inspect.cleandoc(("\n" if where[0].startswith(" ") else "") + said)
        if end is not None:
            body = inspect.cleandoc(said[: end.start()])
        out.append(f"\n## {name}\n\n```text\n{body.strip()}\n```\n")
    return "\n".join(out)


def settings() -> str:
    out = [
        "# Settings\n",
        NOTE,
        "The first place that has a value wins:\n",
        "1. the argument in the code, or the option on the command line;",
        f"2. `{PREFIX}NAME` in the environment;",
        f"3. `./{LOCAL_FILE}`, in the working directory;",
        "4. `carbon-ops/config.toml` in `$XDG_CONFIG_HOME`, or in `~/.config`;",
        "5. the default.\n",
        "An unknown key is an error that names the nearest one. `carbon-ops doctor "
        "--config` shows\nevery setting and where its value comes from. A variable that "
        "is empty is not set; one whose\nname resembles no setting is let be, since "
        "others make such: Kubernetes, for a service.\n",
        "\n| key | environment | default | meaning |\n|---|---|---|---|",
    ]
    for name, key in KEYS.items():
        default = "none" if key.default is None else f"`{key.default}`"
        choices = f"; one of {', '.join(key.choices)}" if key.choices else ""
        out.append(
            f"| `{name}` | `{PREFIX}{name.upper()}` | {default} | {key.help}{choices} |"
        )
    out.append(
        "\n```toml\n"
        '# carbon-ops.toml\nregion = "DE"\nledger = "./ledger"\npolicy = "proportional"\n'
        "```\n"
        "\n## Secrets\n\n"
        "They are never settings, arguments of a command or parts of a record.\n\n"
        "| environment | what |\n|---|---|\n"
        "| `CARBON_OPS_LEDGER_KEY` | file with a ledger's private key (mode 0600) |\n"
        "| `CARBON_OPS_ELECTRICITYMAPS_KEY` | key for Electricity Maps |\n"
        "| `CARBON_OPS_WATTTIME_USER`, `CARBON_OPS_WATTTIME_PASSWORD` | account at "
        "WattTime |\n"
    )
    return "\n".join(out)


GENERATED = {
    "python-api.md": api,
    "cli.md": command_page,
    "exit-codes.md": statuses,
    "configuration.md": settings,
}


def main() -> int:
    check = sys.argv[1:] == ["--check"]
    late = 0
    for name, make in GENERATED.items():
        path = PAGES / name
        text = re.sub(r"\n{3,}", "\n\n", make()).rstrip() + "\n"
        if check and (not path.exists() or path.read_text() != text):
            print(f"{path.name} is out of date: run scripts/build_reference.py")
            late = 1
        elif not check:
            path.write_text(text)
    return late


if __name__ == "__main__":
    sys.exit(main())
