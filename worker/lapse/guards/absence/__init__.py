"""Is "not found" the truth about an id? What proves it, what belies it, and whose answers count."""
