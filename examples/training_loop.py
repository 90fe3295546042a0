"""A training loop with a span for each epoch and each step, a ledger and an estimate.

Logistic regression on made-up data, with numpy. The ledger goes to a temporary folder,
or to the one that is named: python examples/training_loop.py ./training-ledger
"""

from __future__ import annotations

import sys
import tempfile

import numpy as np

from carbon_ops import EnergyLogger, verify_ledger

EPOCHS, STEPS = 3, 20


def train(logger: EnergyLogger) -> float:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=200)
    weights = np.zeros(200)
    loss = 0.0
    for epoch in range(EPOCHS):
        with logger.span("epoch", number=epoch) as span:
            for _ in range(STEPS):
                with logger.span("step"):
                    x = rng.normal(size=(4_000, 200))
                    wanted = x @ truth > 0
                    guess = 1 / (1 + np.exp(-(x @ weights)))
                    weights -= 0.5 * x.T @ (guess - wanted) / len(x)
                    loss = float(np.mean((guess - wanted) ** 2))
        assert span.metric is not None
        energy = span.metric["energy"]
        print(
            f"epoch {epoch}: loss {loss:.3f}, {span.metric['duration_s']:.2f} s, "
            f"{energy['energy_j_total']:.2f} J ± {energy['uncertainty_j']:.2f} J, "
            f"{energy['components']['cpu']['source']}"
        )
    return loss


def main(folder: str) -> int:
    with EnergyLogger(region="DE", ledger=folder) as logger:
        train(logger)
        for name, row in logger.summary().items():
            grams = row["grams"]
            print(
                f"{name:6} {row['calls']:3} calls  {row['joules']:8.2f} J  "
                f"p95 {row['p95_s']:.3f} s  "
                + ("no grams" if grams is None else f"{grams * 1e3:.2f} mg CO2")
            )
    # Steps lie inside epochs: add up one level, not both.
    report = verify_ledger(folder, recompute=True)
    print(f"ledger {folder}: {report.size} records, {report.verdict}")
    return report.exit_code


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(main(sys.argv[1]))
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(main(f"{temporary}/ledger"))
