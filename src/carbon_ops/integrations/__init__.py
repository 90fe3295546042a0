"""Hooks into frameworks; each loads its framework only when it is used."""
