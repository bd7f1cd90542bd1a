"""Addresses as operators write them: `tcp://host:port` of the mesh, `host:port` of the HTTP door."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

WILDCARDS = ("*", "0.0.0.0", "::")


@dataclass(frozen=True, slots=True)
class Address:
    """A host (IPv6 without its brackets) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_wildcard(self) -> bool:
        return self.host in WILDCARDS

    @property
    def is_loopback(self) -> bool:
        """True only for what surely stays on this machine."""
        return self.host == "localhost" or (is_ip(self.host) and ipaddress.ip_address(self.host).is_loopback)

    def clashes_with(self, other: Address) -> bool:
        """Whether one machine cannot bind both. Port 0 is any free one."""
        same_host = self.host == other.host or self.is_wildcard or other.is_wildcard
        return same_host and self.port == other.port != 0


def is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def parse_host_port(text: str, *, lowest_port: int = 0) -> Address:
    """Raises ValueError with the end of a sentence that starts with what was to be parsed."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not is_ip(host):
            raise ValueError(f"has no IPv6 address in its brackets: {text!r}")
    elif ":" in host:
        raise ValueError(f"needs brackets around an IPv6 address, as in [::1]:7480, not {text!r}")
    if not (colon and host and not set(host) & set(" /?#@\t\r\n")):
        raise ValueError(f"must be host:port, as in 127.0.0.1:7480, not {text!r}")
    if not (port.isascii() and port.isdigit() and lowest_port <= int(port[:6]) <= 65535):
        raise ValueError(f"needs a port from {lowest_port} to 65535, not {port!r}")
    return Address(host, int(port))


def parse_tcp(text: str) -> Address:
    """An address that others connect to."""
    scheme, found, rest = text.partition("://")
    if not found or scheme != "tcp":
        raise ValueError(f"must be tcp://host:port, as in tcp://127.0.0.1:7401, not {text!r}")
    return parse_host_port(rest, lowest_port=1)


def parse_listen(text: str) -> Address:
    """An address to bind: names are not looked up for that."""
    address = parse_tcp(text)
    if not (address.host == "*" or is_ip(address.host)):
        hint = "127.0.0.1" if address.host == "localhost" else "0.0.0.0, with the name in advertise"
        raise ValueError(f"takes an IP address, not the name {address.host!r}; try {hint}")
    return address
