"""Who is at the other end of a connection, and as what we are seen from there, with proxies in between."""

from collections.abc import Sequence
from ipaddress import ip_address, ip_network

from starlette.datastructures import Headers
from starlette.types import Scope

UNKNOWN = "unknown"


class Peers:
    """Believes the headers of a proxy only where the configuration names that proxy."""

    def __init__(self, *, proxies: Sequence[str] = (), public_url: str | None = None) -> None:
        """`proxies` are networks; `public_url` is where browsers find us."""
        self._proxies = [ip_network(network) for network in proxies]
        self._public_url = public_url

    def address_of(self, scope: Scope) -> str:
        """The address of the client: of the nearest hop that is no proxy of ours."""
        client = scope.get("client")
        nearest = str(client[0]) if client else UNKNOWN
        if not self._is_proxy(nearest):
            return nearest
        hops = ",".join(Headers(scope=scope).getlist("x-forwarded-for")).split(",")
        for hop in reversed([hop.strip() for hop in hops if hop.strip()]):
            if not self._is_proxy(hop):
                # What a client put there itself is further left, and never looked at.
                return hop if _is_address(hop) else UNKNOWN
        return nearest

    def is_secure(self, scope: Scope) -> bool:
        """Whether the browser came over TLS."""
        return self.origin_of(scope).startswith("https:")

    def origin_of(self, scope: Scope) -> str:
        """What a browser on one of our pages sends as `Origin`."""
        if self._public_url is not None:
            return self._public_url
        return f"{scope.get('scheme', 'http')}://{Headers(scope=scope).get('host', '')}"

    def _is_proxy(self, text: str) -> bool:
        return _is_address(text) and any(ip_address(text) in network for network in self._proxies)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
