"""``python -m carbon_ops``: the same as the command ``carbon-ops``."""

from __future__ import annotations

import sys

from carbon_ops.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
