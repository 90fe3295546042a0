"""Energy and carbon of Python tasks, with an interval, in a record that can be checked.

The public names are loaded on first use (PEP 562), so that importing the package
costs next to nothing in the program that is measured.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carbon_ops.estimate.estimator import CarbonEstimator
    from carbon_ops.export.span import span
    from carbon_ops.ledger.store import Ledger
    from carbon_ops.ledger.verify import verify_ledger
    from carbon_ops.meter.logger import EnergyLogger
    from carbon_ops.meter.track import track

__version__ = "0.1.0"

__all__ = [
    "CarbonEstimator",
    "EnergyLogger",
    "Ledger",
    "__version__",
    "span",
    "track",
    "verify_ledger",
]

_HOME = {
    "CarbonEstimator": "carbon_ops.estimate.estimator",
    "EnergyLogger": "carbon_ops.meter.logger",
    "Ledger": "carbon_ops.ledger.store",
    "span": "carbon_ops.export.span",
    "load_ipython_extension": "carbon_ops.integrations.jupyter",
    "track": "carbon_ops.meter.track",
    "unload_ipython_extension": "carbon_ops.integrations.jupyter",
    "verify_ledger": "carbon_ops.ledger.verify",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
