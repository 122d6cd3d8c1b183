"""One claimed id: what would keep it, what goes first, its DELETE, and what the answer makes of the claim."""
