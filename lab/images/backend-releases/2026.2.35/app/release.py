"""What is different in release 2026.2.35: its settings refuse a key of today's config.toml (see the patch beside)."""

STARTING = "Starting application with dishka DI"
