"""The one logger, ``carbon_ops``: silent unless the program asks for it.

``logging`` is imported on first use, because it would be a fifth of the start-up cost.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from logging import Logger


def log() -> Logger:
    """Return the package's logger, with a ``NullHandler`` so that it prints nothing."""
    import logging

    logger = logging.getLogger("carbon_ops")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return logger
