"""The lab's k3s: real Kubernetes parts under a supervisor that behaves as k3s is known to behave."""
