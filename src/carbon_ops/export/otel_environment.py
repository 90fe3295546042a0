"""Variables that ``opentelemetry-instrument`` offers as options too.

Region, socket and ledger are this package's own: ``CARBON_OPS_REGION`` and so on.
"""

OTEL_PYTHON_CARBON_OPS_HOST = "OTEL_PYTHON_CARBON_OPS_HOST"
"""``true``: show the whole host's energy too. For one program of a host, at most."""
