"""Tables of grid, fuel, processor and embodied figures, each with its source.

Every file says its unit, year, source and licence; ``scripts/build_tables.py`` rebuilds
those that come from packages. Nothing is read until a figure is asked for.
"""
