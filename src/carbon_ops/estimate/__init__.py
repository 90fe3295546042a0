"""From joules to grams, with an interval that means what it says."""
