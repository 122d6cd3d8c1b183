"""Commands that only look: one module a command, of its name."""
