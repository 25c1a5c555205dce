"""Diagnosis and recovery of k3s on one server."""
