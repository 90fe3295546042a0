"""How many grams a kilowatt-hour caused, where and when, and who says so."""
