"""The worker's half of the registry: what it claims, settles, halts and remembers. Each change is one script."""
