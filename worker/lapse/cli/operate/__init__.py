"""Commands that change something: one module a command, of its name."""
