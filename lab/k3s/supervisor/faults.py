"""Faults that a test asks for by a file; without the file nothing here has an effect.

They exist where real k3s is broken by something that the lab has no part for. The folder is outside k3s' own paths, so
neither a backup nor a deletion of k3s' state takes it along.
"""

from pathlib import Path

FOLDER = Path("/etc/lab-k3s/faults")

# The kubelet and the cloud controller leave the addresses of an existing Node object as they are, whatever k3s was
# told; a Node object that is made anew gets the right ones.
STALE_NODE_ADDRESS = "stale-node-address"
# Once, at the next start: the listener's certificate becomes one that another CA has signed, as after certificates of
# another cluster were put in place. The file is removed, so what heals the real one heals this.
FOREIGN_LISTENER_CERTIFICATE = "foreign-listener-certificate"


def wanted(name: str) -> bool:
    """Say whether a test asks for this fault."""
    return (FOLDER / name).exists()


def take(name: str) -> bool:
    """Say whether a test asks for this fault, and forget that it did."""
    asked = wanted(name)
    (FOLDER / name).unlink(missing_ok=True)
    return asked
