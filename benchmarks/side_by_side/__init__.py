"""carbon-ops beside other meters, on the same virtual counters, with known truth."""
