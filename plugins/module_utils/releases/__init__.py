"""Releases on a server: what is there, how the stack gets from one to another without a failed request, and back."""
