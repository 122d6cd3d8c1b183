"""Commands that erase a subject, follow that, and do it again after a restore."""
