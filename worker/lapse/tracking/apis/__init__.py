"""What the paths of each API mean: the form of a row, and a table for each API."""
