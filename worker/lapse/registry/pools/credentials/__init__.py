"""What proves to a server who connects, where that is no password in its URL."""
