"""Addresses of proxies, as the roles docker and k3s take them. The controller loads this file by its path."""

from __future__ import annotations

import re
from urllib.parse import urlsplit


def is_proxy(url: str) -> bool:
    """Whether a URL is a proxy's, with nothing in its login that JSON, shells or systemd would read otherwise."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    rest = parts.path.strip("/") or parts.query or parts.fragment
    spoiled = re.search(r"[\s\x00-\x1f\\\"']|%(?![0-9A-Fa-f]{2})", url) or parts.netloc.count("@") > 1
    known = parts.scheme in ("http", "https", "socks5")
    return bool(known and parts.hostname and port != 0 and not rest and not spoiled)
