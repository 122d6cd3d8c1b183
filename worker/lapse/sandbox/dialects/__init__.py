"""One provider's way of talking per module."""
