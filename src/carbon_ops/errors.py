"""The errors this package raises on purpose.

``str(error)`` says what failed and names the value; :attr:`CarbonOpsError.hint` says
what to do. The command line prints both, without a traceback, and exits with
:attr:`CarbonOpsError.exit_code`. Trouble while measuring is never an error: it becomes a
reason in the record.
"""

from __future__ import annotations


class CarbonOpsError(Exception):
    """Base of every error raised on purpose by this package."""

    exit_code = 2

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class InvalidInputError(CarbonOpsError, ValueError):
    """A value given by the caller cannot be used; nothing was changed."""


class UnknownRegionError(InvalidInputError):
    """No data set knows this region; the hint names the nearest ones."""


class ConfigError(InvalidInputError):
    """A configuration file or environment variable holds an unusable value."""


class SourceUnavailableError(CarbonOpsError):
    """A hardware source cannot be opened on this machine."""


class GovernorUnavailableError(CarbonOpsError):
    """The governor gave no usable reading.

    ``reason`` is one of :data:`carbon_ops.model.Reason`; callers that measure turn it
    into a field of the record.
    """

    def __init__(self, reason: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class OutOfWindowError(CarbonOpsError):
    """The instant lies before the oldest sample that is kept."""


class MissingDependencyError(CarbonOpsError):
    """An optional package is needed; the hint names the extra that brings it."""


class ProviderError(CarbonOpsError):
    """A provider of grid intensity gave no usable answer."""


class LedgerError(CarbonOpsError):
    """A ledger cannot be opened, read or written. What was durable stays durable."""
