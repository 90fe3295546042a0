"""The pages on exporting are run: each bash block and each Python block, as it stands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from carbon_ops.export import table

ROOT = Path(__file__).parents[2]
PAGES = ("prometheus", "opentelemetry", "kubernetes", "slurm")
TEXT = {page: (ROOT / "docs" / "how-to" / f"{page}.md").read_text() for page in PAGES}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [
    (page, number, language, code)
    for page in PAGES
    for number, (language, code) in enumerate(BLOCK.findall(TEXT[page]))
]
RUN = {"bash": ["bash", "-euc"], "python": [sys.executable, "-W", "error", "-c"]}


@pytest.mark.parametrize(
    ("language", "code"),
    [(language, code) for *_, language, code in BLOCKS if language in RUN],
    ids=[f"{page}-{n}" for page, n, language, _ in BLOCKS if language in RUN],
)
def test_a_block_runs(tmp_path: Path, language: str, code: str) -> None:
    done = subprocess.run(
        [*RUN[language], code],
        cwd=tmp_path,
        env={
            "HOME": str(tmp_path),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "CARBON_OPS_SOCKET": str(tmp_path / "none"),
        },
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout or list(tmp_path.glob("*.prom"))


def test_the_table_of_series_is_the_table() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (.+?) \| .+? \| (.*?) \|$", TEXT["prometheus"], re.M
    )
    assert [(name, labels) for name, _, labels in rows] == [
        (row.native, ", ".join(row.labels)) for row in table.TABLE
    ]
    otel = [name.strip("`") for _, name, _ in rows[:-1]]
    assert otel == [row.otel for row in table.TABLE[:-1]]


def test_every_file_and_page_that_is_named_exists() -> None:
    for page, text in TEXT.items():
        for path in re.findall(r"\b(?:packaging|tests)/[\w./-]*\w", text):
            assert (ROOT / path).exists(), (page, path)
        for path in re.findall(r"\]\(([\w./-]+\.md)\)", text):
            assert (ROOT / "docs" / "how-to" / path).exists(), (page, path)


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not here")
def test_promtool_takes_the_configuration_and_the_query(tmp_path: Path) -> None:
    (scrape,) = [
        c for page, _, lang, c in BLOCKS if (page, lang) == ("prometheus", "yaml")
    ]
    (query,) = [c for page, _, lang, c in BLOCKS if (page, lang) == ("slurm", "text")]
    (tmp_path / "prometheus.yml").write_text(scrape)
    rule = f"groups: [{{name: a, rules: [{{record: a:b, expr: '{query.strip()}'}}]}}]"
    (tmp_path / "rules.yml").write_text(rule)
    for words in (("config", "prometheus.yml"), ("rules", "rules.yml")):
        done = subprocess.run(
            ["promtool", "check", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
