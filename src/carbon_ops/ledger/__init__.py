"""Records that are chained, covered by a signed checkpoint, and verifiable."""
