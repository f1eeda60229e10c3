"""Which machines a repository may be fetched from: public ones, and the private networks that the settings allow.

Whoever may start a workflow names the repository; without this check the worker would fetch from its own
network, and from the metadata service of its cloud, on their behalf.
"""

import asyncio
import socket
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from openaperture.domain.errors import BadReference, MilestoneFailed

Network = IPv4Network | IPv6Network
_NAT64 = IPv6Network("64:ff9b::/96")
RESOLVE_SECONDS = 20.0


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """`10.0.0.0/8` and the like. Raises ValueError."""
    return tuple(ip_network(text) for text in texts)


async def checked_addresses(host: str, port: int, allowed: Sequence[Network]) -> list[str]:
    """Resolve `host` and return its addresses, every one checked. Connect to these and to no others.

    Raises BadReference for an address that is not allowed, MilestoneFailed when the name does not resolve.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:  # TimeoutError is one
        raise MilestoneFailed(f'the host "{host}" of the repository cannot be found: {exc}') from exc
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        if not is_allowed(address, allowed):
            raise BadReference(
                f'the host "{host}" of the repository has the address {address}, which is not public; '
                "if it is meant, add its network to the worker's private_networks"
            )
    return addresses


def is_allowed(address: str, allowed: Sequence[Network]) -> bool:
    """Public, or inside one of the allowed networks. An IPv4 address inside an IPv6 one counts as what it is."""
    parsed = _unwrapped(ip_address(address.partition("%")[0]))
    if any(parsed.version == network.version and parsed in network for network in allowed):
        return True
    return parsed.is_global and not parsed.is_multicast


def is_proxied(host: str, environment: Mapping[str, str]) -> bool:
    """Whether https to this host goes through a proxy: then the proxy resolves its name, and decides."""
    lower = {name.lower(): value for name, value in environment.items()}
    if not (lower.get("https_proxy") or lower.get("all_proxy")):
        return False
    exceptions = [entry.strip().lstrip(".").lower() for entry in lower.get("no_proxy", "").split(",")]
    return "*" not in exceptions and not any(
        entry and (host.lower() == entry or host.lower().endswith(f".{entry}")) for entry in exceptions
    )


def is_literal(host: str) -> bool:
    """Whether the host is written as an address, in any of the spellings that resolvers take."""
    try:
        socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except OSError:
        return False
    return True


def _unwrapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv6Address):
        if inner := address.ipv4_mapped or address.sixtofour:
            return inner
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address
