"""Connections of threads and of event loops, and how what comes over them is read."""
