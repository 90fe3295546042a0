"""Tables of numbers, each with unit, year, source and licence."""
