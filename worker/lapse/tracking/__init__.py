"""What an application's clients create, use and delete, registered as it happens: by hooks on their HTTP clients."""
