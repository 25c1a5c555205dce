"""What is different in release 2026.2.19."""

STARTING = "Starting application"
