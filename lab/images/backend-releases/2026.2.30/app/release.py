"""What is different in release 2026.2.30: routes for load tests."""

NAME = "2026.2.30"
STARTING = "Starting application with dishka DI"
