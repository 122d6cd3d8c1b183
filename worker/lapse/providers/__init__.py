"""One account at a provider: its requests, what their answers mean, and the kinds of objects that it has."""
