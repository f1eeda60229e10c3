"""From a connection of the directory to an amqp url."""

import re
from ipaddress import IPv6Address
from urllib.parse import quote

from openaperture.client.rows import Connection

PLAIN_PORT = 5672
TLS_PORT = 5671
"""The registered port of AMQP over TLS: who listens there speaks nothing else."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}")
"""A host name or an IPv4 address."""


def url_of(connection: Connection) -> str | None:
    """The url, with everything quoted; None when it has no host or port that can be one.

    The original creates connections without a port and often without a virtual host: then it is 5672,
    and "/". The url holds the password: it is for those who connect, and for no text.
    """
    host = _host_of((connection.host or "").strip())
    port = _port_of(connection.port)
    if host is None or port is None:
        return None
    scheme = "amqps" if port == TLS_PORT else "amqp"
    login = ""
    if connection.username:
        login = f"{quote(connection.username, safe='')}:{quote(connection.password or '', safe='')}@"
    return f"{scheme}://{login}{host}:{port}/{quote(connection.virtual_host or '/', safe='')}"


def _host_of(text: str) -> str | None:
    if _NAME.fullmatch(text):
        return text
    try:
        return f"[{IPv6Address(text).compressed}]" if "%" not in text else None
    except ValueError:
        return None


def _port_of(value: int | str | None) -> int | None:
    text = "" if value is None else str(value).strip()
    if not text:
        return PLAIN_PORT
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65_536 else None
