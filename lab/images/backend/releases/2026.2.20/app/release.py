"""What is different in release 2026.2.20."""

STARTING = "Starting application with dishka DI"
