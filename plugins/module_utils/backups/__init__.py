"""Backups of k3s and the application: files, what is in them, and where they are."""
