"""The audit: lines on their way from a slot's stream to a file, sealed into a chain, and verified."""
