"""One process: Celery's settings, its beat and worker, the event loop and what runs on it, and how it ends."""
