"""The pages are run: commands and Python as they stand, links followed, options known."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import click
import pytest

from carbon_ops import model
from carbon_ops.cli.main import cli

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = {str(path.relative_to(DOCS)): path.read_text() for path in DOCS.rglob("*.md")}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
# Pages whose blocks have a test of their own, because they need something set up.
ELSEWHERE = {
    "how-to/verify-a-ledger.md": "test_ledger_public_tools.py",
    "how-to/kubernetes.md": "test_export_docs.py",
    "how-to/slurm.md": "test_export_docs.py",
    "how-to/prometheus.md": "test_export_docs.py",
    "how-to/opentelemetry.md": "test_export_docs.py",
    "how-to/frameworks.md": "../integrations/test_frameworks_page.py",
}


def blocks(language: str) -> dict[str, list[str]]:
    found = {
        page: [code for kind, code in BLOCK.findall(text) if kind == language]
        for page, text in sorted(PAGES.items())
        if page not in ELSEWHERE
    }
    return {page: codes for page, codes in found.items() if codes}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the examples, as in the checkout."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


def run(place: Path, *command: str) -> None:
    done = subprocess.run(
        command,
        cwd=place,
        env={
            "HOME": str(place),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "CARBON_OPS_SOCKET": str(place / "no-governor.sock"),
        },
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("page", "codes"), blocks("bash").items(), ids=blocks("bash"))
def test_the_commands_of_a_page_run_in_their_order(
    page: str, codes: list[str], place: Path
) -> None:
    if page == "tutorial.md" or "ledger" in "".join(codes):
        pytest.importorskip("cryptography")
    run(place, "bash", "-euo", "pipefail", "-c", "\n".join(codes))


@pytest.mark.parametrize(
    ("page", "codes"), blocks("python").items(), ids=blocks("python")
)
def test_the_python_of_a_page_runs(page: str, codes: list[str], place: Path) -> None:
    for code in codes:
        run(place, sys.executable, "-W", "error", "-c", code)


def commands() -> Iterator[tuple[str, list[str]]]:
    for page, text in sorted(PAGES.items()):
        for kind, code in BLOCK.findall(text):
            if kind not in ("console", "bash", "sh"):
                continue
            for line in code.replace("\\\n", " ").splitlines():
                at = re.search(
                    r"(?:^|\$ |[/(|]|=\S* )(?:sudo )?carbon-ops (?=[a-z-])", line
                )
                if at is not None:
                    rest = re.split(r"\s[|;&]+\s|\s>|\"?\$\(", line[at.end() :])[0]
                    yield page, rest.rstrip(")").split()


def test_shown_commands_and_options_exist() -> None:
    """Also those that need a service, root or the network, and are not run."""
    seen = 0
    for page, words in commands():
        command: click.Command = cli
        context = click.Context(cli)
        while words and isinstance(command, click.Group):
            inner = command.get_command(context, words.pop(0))
            assert inner is not None, (page, words)
            command = inner
        known = {opt for param in command.params for opt in param.opts} | {"--help"}
        for word in words:
            if word == "--":
                break
            if word.startswith("-") and len(word) > 1:
                assert word.split("=")[0] in known, (page, command.name, word)
        seen += 1
    assert seen > 20


def anchors(text: str) -> set[str]:
    """Return the names of headings as Markdown renderers make them."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
        for title in titles
    }


@pytest.mark.parametrize("page", sorted(PAGES))
def test_links_lead_somewhere(page: str) -> None:
    text = re.sub(r"```.*?```", "", PAGES[page], flags=re.DOTALL)
    for link in LINK.findall(text):
        if link.startswith(("https://", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = (DOCS / page).parent / name if name else DOCS / page
        assert target.exists(), (page, link)
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target.read_text()), (page, link)


def test_every_cell_about_another_tool_has_its_evidence() -> None:
    """A file of the tool's own repository, at a commit that cannot change."""
    page = PAGES["comparison.md"]
    targets = dict(re.findall(r"^\[([\w-]+)\]: (\S+)$", page, re.MULTILINE))
    for url in targets.values():
        assert re.match(r"https://github.com/[\w-]+/\w+/blob/[0-9a-f]{40}/\w", url), url
    rows = [
        line.strip("|").split("|")
        for line in page.partition("\n\n")[2].splitlines()
        if line.startswith("|") and "][" in line
    ]
    assert len(rows) > 5
    for tool, *cells in rows:
        for cell in cells:
            assert re.search(r"\]\[([\w-]+)\]", cell), (tool, cell)
    used = set(re.findall(r"\]\[([\w-]+)\]", page))
    assert used == set(targets)
    for name in re.findall(r"`((?:tests|examples|benchmarks)/[\w/.]+)`", page):
        assert (ROOT / name).exists(), name


def test_pages_left_out_are_tested_where_it_says() -> None:
    for page, test in ELSEWHERE.items():
        assert page in PAGES
        assert Path(page).stem in (Path(__file__).parent / test).read_text(), page


def test_every_page_is_reached_from_the_first() -> None:
    found, waiting = {"index.md"}, ["index.md"]
    while waiting:
        page = waiting.pop()
        for link in LINK.findall(PAGES[page]):
            target = (DOCS / page).parent / link.partition("#")[0]
            name = os.path.relpath(target, DOCS)
            if name in PAGES and name not in found:
                found.add(name)
                waiting.append(name)
    assert found == set(PAGES)


def test_every_page_is_in_the_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text()
    listed = re.findall(r"^ +- ([\w/-]+\.md)$", menu, re.MULTILINE)
    assert sorted(listed) == sorted(PAGES)


def test_generated_pages_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "build_reference.py"), "--check"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def names(kind: type) -> Iterator[str]:
    for name, hint in get_type_hints(kind).items():
        yield name
        inner = next(
            (
                k
                for k in (hint, *getattr(hint, "__args__", ()))
                if hasattr(k, "__total__")
            ),
            None,
        )
        if inner is not None:
            yield from names(inner)


def test_every_field_of_a_metric_is_explained() -> None:
    words = set(re.findall(r"\w+", PAGES["reference/records.md"]))
    assert set(names(model.Metric)) <= words


def test_every_reason_is_explained() -> None:
    for reason in model.Reason.__args__:  # type: ignore[attr-defined]
        assert f"`{reason}`" in PAGES["telemetry-modes.md"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_there_for(shell: str, tmp_path: Path) -> None:
    program = str(Path(sys.executable).parent / "carbon-ops")
    env = {**os.environ, "HOME": str(tmp_path)}
    script = subprocess.run(
        [program],
        env={**env, "_CARBON_OPS_COMPLETE": f"{shell}_source"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert script.returncode == 0, script.stderr
    assert "_CARBON_OPS_COMPLETE" in script.stdout


def test_completion_knows_commands_and_options(tmp_path: Path) -> None:
    program = str(Path(sys.executable).parent / "carbon-ops")
    for words, number, expected in (
        ("carbon-ops led", "1", "ledger"),
        ("carbon-ops ledger ver", "2", "verify"),
        ("carbon-ops run --reg", "2", "--region"),
    ):
        done = subprocess.run(
            [program],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "_CARBON_OPS_COMPLETE": "bash_complete",
                "COMP_WORDS": words,
                "COMP_CWORD": number,
            },
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert f"plain,{expected}" in done.stdout.splitlines(), done.stderr


def test_the_pages_build_in_strict_mode(tmp_path: Path) -> None:
    pytest.importorskip("zensical", reason="extra docs")
    shutil.copytree(DOCS, tmp_path / "docs")
    (tmp_path / "mkdocs.yml").write_text((ROOT / "mkdocs.yml").read_text())
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "build/site/tutorial/index.html").exists()


def test_a_command_that_is_not_there_names_the_nearest() -> None:
    program = str(Path(sys.executable).parent / "carbon-ops")
    for wrong, near in (("monitr", "carbon-ops monitor"), ("verify", "ledger verify")):
        done = subprocess.run(
            [program, wrong], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 2
        assert near in done.stderr
