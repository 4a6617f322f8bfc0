"""The address guard: which addresses a host has, and to which addresses nothing is sent."""

import socket
import threading
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

import httpcore2

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
# IANA's registries of special addresses, and services of clouds at public addresses. An IPv4 address that is not listed
# is public. An IPv6 address is public only inside _PUBLIC_IPV6.
_FORBIDDEN: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), kind)
    for network, kind in (
        ("169.254.169.254/32", "a cloud's metadata address"),
        ("168.63.129.16/32", "a cloud's metadata address"),
        ("100.100.100.200/32", "a cloud's metadata address"),
        ("fd00:ec2::254/128", "a cloud's metadata address"),
        ("0.0.0.0/8", "an address of this host"),
        ("10.0.0.0/8", "a private address"),
        ("100.64.0.0/10", "a carrier's shared address"),
        ("127.0.0.0/8", "a loopback address"),
        ("169.254.0.0/16", "a link-local address"),
        ("172.16.0.0/12", "a private address"),
        ("192.0.0.0/24", "a protocol's own address"),
        ("192.0.2.0/24", "an address for documentation"),
        ("192.88.99.0/24", "an address of 6to4 relays"),
        ("192.168.0.0/16", "a private address"),
        ("198.18.0.0/15", "an address for benchmarks"),
        ("198.51.100.0/24", "an address for documentation"),
        ("203.0.113.0/24", "an address for documentation"),
        ("224.0.0.0/4", "a multicast address"),
        ("255.255.255.255/32", "the broadcast address"),
        ("240.0.0.0/4", "a reserved address"),
        ("::/128", "an address of this host"),
        ("::1/128", "a loopback address"),
        ("::/96", "an IPv4 address written as IPv6"),
        ("64:ff9b::/96", "an IPv4 address behind NAT64"),
        ("64:ff9b:1::/48", "an IPv4 address behind NAT64"),
        ("100::/64", "an address that goes nowhere"),
        ("2001::/32", "an IPv4 address behind Teredo"),
        ("2001:db8::/32", "an address for documentation"),
        ("2001::/23", "a protocol's own address"),
        ("2002::/16", "an IPv4 address behind 6to4"),
        ("3fff::/20", "an address for documentation"),
        ("5f00::/16", "an address of segment routing"),
        ("fc00::/7", "a private address"),
        ("fe80::/10", "a link-local address"),
        ("fec0::/10", "a private address"),
        ("ff00::/8", "a multicast address"),
    )
)
_PUBLIC_IPV6 = ip_network("2000::/3")


def forbidden(address: Address, allowed: Iterable[Network]) -> str | None:
    """Why nothing is sent to this address, in words; None where it is allowed. `allowed` lists the exceptions."""
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or IPv6Address(int(address))  # without its scope, which names a link
    if any(address in network for network in allowed):
        return None
    for network, kind in _FORBIDDEN:
        if address in network:
            return kind
    if isinstance(address, IPv6Address) and address not in _PUBLIC_IPV6:
        return "an address that is not public"
    return None


def resolved(host: str, port: int, seconds: float) -> Iterator[Address]:
    """The addresses of a host, in the resolver's order; in a thread, since a resolver has no time limit."""
    found: list[Any] = []

    def resolve() -> None:
        try:
            found.extend(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            found.append(error)

    thread = threading.Thread(target=resolve, daemon=True, name="jobsite-resolver")
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise httpcore2.ConnectTimeout(f"{host} was not resolved in time")
    for one in found:
        if isinstance(one, Exception):
            raise httpcore2.ConnectError(f"{host} cannot be resolved: {getattr(one, 'strerror', None) or one}") from one
        address = ip_address(one[4][0])
        yield getattr(address, "ipv4_mapped", None) or address
