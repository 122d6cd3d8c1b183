"""A whole registry as one file, and that file as a registry."""
