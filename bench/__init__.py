"""Measurements side by side with plain ssh."""
