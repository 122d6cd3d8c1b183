"""What is shown: a snapshot of the registry as metrics and health pages. Nothing here changes anything."""
