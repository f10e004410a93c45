"""What an endpoint's address says: whether it is one, whether it is encrypted, and whether it leaves this machine."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

_CHAT = "/chat/completions"


def checked_address(url: str) -> str:
    """The address without what need not be there. Raises `ValueError`, which shows no password that is in it."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("an address is not a URL") from None
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("an address holds a user, a query or a fragment; keys come from key_env or key_file only")
    if parts.scheme not in {"http", "https"} or not host:
        raise ValueError("an address starts with https:// (or http:// on this machine), such as https://host/v1")
    return url.rstrip("/").removesuffix(_CHAT).rstrip("/")


def is_plain(url: str) -> bool:
    """Whether anybody on the way can read what is sent."""
    return urlsplit(url).scheme == "http"


def is_local(url: str) -> bool:
    """Whether the address is this machine's own."""
    host = host_of(url)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def host_of(url: str) -> str:
    """The host's name, in small letters and without the port."""
    return urlsplit(url).hostname or ""
