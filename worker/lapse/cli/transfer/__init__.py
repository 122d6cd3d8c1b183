"""What goes into a registry from elsewhere, or out of it, many ids at a time."""
