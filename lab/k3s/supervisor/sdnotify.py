"""Tells systemd that the service is ready (the vendor's unit is Type=notify)."""

import os
import socket


def notify(text: str) -> bool:
    """Send `text` to systemd; False when it did not start this process."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.connect(address)
        channel.sendall(text.encode())
    return True
