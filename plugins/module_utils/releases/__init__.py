"""Releases on a server: the lock, the switch, the way back."""
