"""What a task used: spans, attribution and the metric record."""
