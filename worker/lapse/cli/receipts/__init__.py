"""Receipts of erasures: what is said, how it is signed and filed, and whether it is what was signed."""
