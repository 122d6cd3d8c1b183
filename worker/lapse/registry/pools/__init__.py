"""Connections of threads and of event loops, to one server or several, and how what comes over them is read."""
