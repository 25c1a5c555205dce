"""What is different in release 2026.2.21: it has no coordinator (see the patch beside)."""

STARTING = "Starting application with dishka DI"
