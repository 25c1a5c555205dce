"""What is different in release 2026.2.31: its name; otherwise as 2026.2.30."""

NAME = "2026.2.31"
STARTING = "Starting application with dishka DI"
