"""Real work for the demo: CPU-bound Python whose results are known."""

from __future__ import annotations

import hashlib
import subprocess  # nosec B404: argument lists, no shell
import sys
import time
from collections.abc import Callable


def count_primes(limit: int) -> int:
    """Return how many primes are below ``limit`` (sieve of Eratosthenes)."""
    sieve = bytearray([1]) * limit
    sieve[:2] = b"\0\0"
    for n in range(2, int(limit**0.5) + 1):
        if sieve[n]:
            sieve[n * n :: n] = bytes(len(range(n * n, limit, n)))
    return sum(sieve)


def train_perceptron(steps: int) -> float:
    """Return the weight that learns y = 3x by gradient descent, in plain Python."""
    data = [(x / 100, 3 * x / 100) for x in range(100)]
    weight = 0.0
    for _ in range(steps):
        slope = sum((weight * x - y) * x for x, y in data) / len(data)
        weight -= 0.5 * slope
    return weight


def hash_chain(links: int) -> str:
    """Return the end of a chain of SHA-256 hashes, each over the one before it."""
    digest = b""
    for _ in range(links):
        digest = hashlib.sha256(digest).digest()
    return digest.hex()


def in_children(count: int, seconds: float) -> None:
    """Hash in ``count`` processes at once: their energy is this task's, too."""
    code = f"from {__name__} import hash_for; hash_for({seconds})"
    children = [
        subprocess.Popen([sys.executable, "-c", code])  # nosec B603: our own code
        for _ in range(count)
    ]
    for child in children:
        child.wait()


def hash_for(seconds: float) -> None:
    """Hash until ``seconds`` have passed."""
    _until(seconds, lambda: hash_chain(50_000))


def _until(seconds: float, step: Callable[[], object]) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        step()


OPERATIONS: tuple[tuple[str, Callable[[], None]], ...] = (
    ("sieve primes", lambda: _until(1.5, lambda: count_primes(200_000))),
    ("train a model", lambda: _until(1.5, lambda: train_perceptron(200))),
    ("hash a chain", lambda: hash_for(1.5)),
    ("2 children", lambda: in_children(2, 1.0)),
)
