"""Erasures: what a person's request is, what it found, and what became of each id."""
