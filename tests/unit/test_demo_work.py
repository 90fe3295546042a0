"""The demo's work is real: its results are the known ones."""

from __future__ import annotations

import hashlib

from carbon_ops.cli.demo_work import count_primes, hash_chain, train_perceptron


def test_there_are_9592_primes_below_a_hundred_thousand() -> None:
    assert count_primes(100_000) == 9_592  # OEIS A006880


def test_the_model_learns_the_slope() -> None:
    assert abs(train_perceptron(300) - 3.0) < 1e-6


def test_the_chain_is_sha256_over_itself() -> None:
    assert hash_chain(2) == hashlib.sha256(hashlib.sha256(b"").digest()).hexdigest()
