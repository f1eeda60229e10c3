"""What the original Manager says about its directory, as far as we use it.

Reading is tolerant: fields that are not known are passed over. Ids are numbers in the original's JSON and
texts in our configuration, so they are compared as texts everywhere: see `text_of`.
"""

from typing import overload

from msgspec import Struct

Id = int | str


@overload
def text_of(value: Id) -> str: ...
@overload
def text_of(value: None) -> None: ...
def text_of(value: Id | None) -> str | None:
    """An id as text: 1 and "1" are one."""
    return None if value is None else str(value)


def number_of(value: Id) -> int | None:
    """An id as a number, which all ids of the original's tables are; None for what can be none."""
    text = str(value)
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        return None
    return number if (number := int(text)) < 2**63 else None


class Exchange(Struct, kw_only=True, frozen=True):
    """A routing domain. The Manager has walked its parents already."""

    id: Id
    routing_key: str
    """Prefix of the routing keys, with the parents' parts in front."""
    root_exchange_name: str
    """The AMQP exchange that is published to."""
    failover_exchange_id: Id | None = None


class Restriction(Struct, kw_only=True, frozen=True):
    """An exchange is reached over this broker. The row has an `id` of its own, which is no broker's."""

    messaging_broker_id: Id


class BrokerRow(Struct, kw_only=True, frozen=True):
    """An AMQP server, or several that hold the same."""

    id: Id
    name: str | None = None
    failover_broker_id: Id | None = None


class Connection(Struct, kw_only=True, frozen=True):
    """One way to connect to a broker. The password comes in clear text and is shown nowhere."""

    host: str | None = None
    port: int | str | None = None
    """Mostly null: the original's create ignores it."""
    username: str | None = None
    password: str | None = None
    virtual_host: str | None = None

    def __repr__(self) -> str:
        return f"Connection(host={self.host!r}, port={self.port!r}, virtual_host={self.virtual_host!r})"


class Cluster(Struct, kw_only=True, frozen=True):
    """Where something is built or deployed to."""

    etcd_token: str
    messaging_exchange_id: Id | None = None
    name: str | None = None


class Module(Struct, kw_only=True, frozen=True):
    """A worker process that has registered."""

    hostname: str | None = None
    type: str | None = None
    status: str | None = None
    updated_at: str | None = None
    """RFC 1123. Renewed at each heartbeat where an Overseer listens, else never."""
