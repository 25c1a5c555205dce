"""What is different in release 2026.2.34: its result-processor crashes 20 s after its start (see the patch beside)."""

NAME = "2026.2.34"
STARTING = "Starting application with dishka DI"
