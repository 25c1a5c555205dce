"""Programs that run once."""
