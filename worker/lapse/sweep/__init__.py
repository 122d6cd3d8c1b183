"""The stories: what is due, what nobody uses, a plan, a purge; one session each, by the same claims and deletions."""
