"""How large an installation is: distributions and megabytes, in an empty environment.

    python benchmarks/install_size.py [EXTRA,...]

Makes a virtual environment in a temporary folder, installs this checkout (with the
named extras) and counts what came with it, without pip itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    extras = f"[{sys.argv[1]}]" if len(sys.argv) > 1 else ""
    with tempfile.TemporaryDirectory() as folder:
        venv = Path(folder) / "venv"
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        python = venv / "bin" / "python"
        site = next(venv.glob("lib/python*/site-packages"))
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", f"{ROOT}{extras}"], check=True
        )
        listed = subprocess.run(
            [python, "-m", "pip", "list", "--format=json"],
            check=True,
            capture_output=True,
        )
        names = {d["name"] for d in json.loads(listed.stdout)} - {"pip", "setuptools"}
        size = sum(
            file.stat().st_size
            for file in site.rglob("*")
            if file.is_file()
            and file.relative_to(site).parts[0].split("-")[0]
            not in ("pip", "setuptools", "pkg_resources", "_distutils_hack")
        )
    print(
        json.dumps(
            {
                "extras": extras,
                "distributions": len(names),
                "megabytes": round(size / 1e6, 1),
                "names": sorted(names),
            },
            indent=2,
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
