"""What an application said while Redis was away: kept in a local file, in order, and sent when Redis is back."""
