"""One AMQP connection and its channels: pika's callbacks turned into calls that can be awaited.

Knows pika and nothing of queues, consumers or retries. What goes wrong is raised as pika's own
`AMQPError` or as `TimeoutError`; `failures.py` turns both into our errors at the adapter's edge.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from pika import URLParameters
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.channel import Channel as PikaChannel
from pika.exceptions import AMQPConnectionError, AMQPError, StreamLostError

from openaperture.domain.errors import ConfigError

# pika writes a dozen lines and stack traces for each lost connection. What they say reaches the Observer.
logging.getLogger("pika").setLevel(logging.CRITICAL)

CONNECT_SECONDS = 15.0
"""TCP, TLS and the AMQP handshake together."""
CALL_SECONDS = 10.0
"""One synchronous AMQP method, from sending it to its reply."""
CLOSE_SECONDS = 5.0
"""An orderly goodbye; after that the stream is cut."""


def connection_parameters(url: str, *, heartbeat_seconds: int, connection_name: str) -> URLParameters:
    """Read an `amqp://` or `amqps://` url. An `amqps` one always verifies certificate and host name.

    A private authority is named in the url as pika does it, `?ssl_options={'ca_certs': '/path'}`, or
    by SSL_CERT_FILE. Raises ConfigError; its text never holds the url, which may contain a password.
    """
    problem = "the broker url cannot be read: write it as amqp://user:password@host:5672/vhost, or amqps://"
    if not url.startswith(("amqp://", "amqps://")):
        raise ConfigError([problem])
    try:
        parameters = URLParameters(url)
    except (ValueError, TypeError, OSError):
        # Without the cause: it quotes what it could not read, and that may be a piece of the password.
        raise ConfigError([problem]) from None
    tls = parameters.ssl_options
    if tls and not (tls.context.verify_mode is ssl.CERT_REQUIRED and tls.context.check_hostname):
        raise ConfigError(["the broker url turns certificate verification off: remove that from ssl_options"])
    parameters.heartbeat = heartbeat_seconds
    parameters.client_properties = {"connection_name": connection_name}
    return parameters


class Channel:
    """One AMQP channel. `raw` is pika's, for calls that have no reply."""

    def __init__(self, raw: PikaChannel) -> None:
        loop = asyncio.get_running_loop()
        self.raw = raw
        self.ended: asyncio.Future[AMQPError] = loop.create_future()
        """Done when the channel is gone, with the reason: `ChannelClosed` holds the broker's code."""
        self._replies: set[asyncio.Future[Any]] = set()
        raw.add_on_close_callback(self._on_close)

    async def call(self, method: Callable[..., object], **arguments: Any) -> Any:
        """Send a synchronous method of `raw` and return its reply, a pika method frame.

        Raises AMQPError when the channel ends instead of a reply, TimeoutError after CALL_SECONDS.
        """
        reply = asyncio.get_running_loop().create_future()
        self._replies.add(reply)
        try:
            async with asyncio.timeout(CALL_SECONDS):
                method(callback=partial(_settle, reply), **arguments)
                return await reply
        finally:
            self._replies.discard(reply)

    async def close(self) -> None:
        """Close the channel in order; never raises, a channel that does not answer is left to its connection."""
        if self.raw.is_open:
            self.raw.close()
            await asyncio.wait([self.ended], timeout=CLOSE_SECONDS)

    def abandon(self) -> None:
        """Close without waiting for the answer. Harmless on a channel that is gone."""
        with contextlib.suppress(AMQPError):
            self.raw.close()

    def _on_close(self, _raw: PikaChannel, reason: Exception) -> None:
        ending = reason if isinstance(reason, AMQPError) else StreamLostError(repr(reason))
        _settle(self.ended, ending)
        for reply in self._replies:
            if not reply.done():
                reply.set_exception(ending)


class _Stream(AsyncioConnection):
    """pika's connection with two things that it does not offer in public."""

    def _output_marshaled_frames(self, marshaled_frames: Sequence[bytes]) -> None:
        # One write for the three frames of a message, not three: a quarter less CPU per publish (measured),
        # and one TLS record. Should pika rename this hook, its own slower way is used.
        written = b"".join(marshaled_frames)
        self.bytes_sent += len(written)
        self.frames_sent += len(marshaled_frames)
        # types-pika leaves out what begins with an underscore.
        self._adapter_emit_data(written)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]

    def cut(self) -> None:
        """Drop the TCP connection now, as pika itself does on a missed heartbeat."""
        # As above: there at run time, and not in types-pika.
        self._terminate_stream(AMQPConnectionError("given up"))  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


class Connection:
    """One live connection. It never reconnects: when it has ended, open another."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[str] = loop.create_future()
        """Done when the connection is gone, with the reason in words."""
        self.unblocked = asyncio.Event()
        """Clear while the broker has told us to stop publishing (memory or disk alarm)."""
        self.unblocked.set()
        self.blocked_reason = ""
        self._opened: asyncio.Future[None] = loop.create_future()
        self._raw: _Stream
        self._cut = False

    @classmethod
    async def open(cls, parameters: URLParameters, *, on_blocked: Callable[["Connection"], None]) -> "Connection":
        """Connect and shake hands. `on_blocked` is called at each `connection.blocked` and `unblocked`.

        Raises AMQPConnectionError, whose text is the reason in words, or TimeoutError.
        """
        self = cls()
        self._raw = _Stream(
            parameters,
            on_open_callback=lambda _: _settle(self._opened, None),
            on_open_error_callback=lambda _, error: self._on_refused(error),
            on_close_callback=lambda _, error: self._on_end(error),
        )
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._opened
        except BaseException:
            self.cut()
            raise
        self._raw.add_on_connection_blocked_callback(
            lambda _, frame: self._on_blocked(frame.method.reason, on_blocked)
        )
        self._raw.add_on_connection_unblocked_callback(lambda _, __: self._on_blocked(None, on_blocked))
        return self

    @property
    def is_open(self) -> bool:
        return self._raw.is_open

    @property
    def bytes_received(self) -> int:
        return self._raw.bytes_received

    async def open_channel(self) -> Channel:
        """Raises AMQPError (also when the broker allows no further channel) or TimeoutError."""
        opened: asyncio.Future[PikaChannel] = asyncio.get_running_loop().create_future()
        channel = Channel(self._raw.channel(on_open_callback=partial(_settle, opened)))
        answers: list[asyncio.Future[Any]] = [opened, channel.ended]
        try:
            await asyncio.wait(answers, timeout=CALL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            channel.abandon()
            raise
        if channel.ended.done():
            raise channel.ended.result()
        if not opened.done():
            channel.abandon()
            raise TimeoutError
        return channel

    async def close(self) -> None:
        """Say goodbye and wait for the answer, a few seconds; then cut."""
        if self._raw.is_open:
            self._raw.close()
        await asyncio.wait([self.ended], timeout=CLOSE_SECONDS)
        self.cut()

    def cut(self) -> None:
        """Drop the connection at once. Unsettled deliveries go back, unconfirmed publishes stay unknown."""
        if not self._cut and not self._raw.is_closed:
            self._cut = True
            self._raw.cut()

    def _on_refused(self, error: object) -> None:
        if not self._opened.done():
            reason = describe(_innermost(error)) if isinstance(error, Exception) else str(error)
            self._opened.set_exception(AMQPConnectionError(reason))

    def _on_end(self, error: Exception) -> None:
        # Whoever waits for the alarm to end must notice that there is nothing left to wait for.
        self.unblocked.set()
        _settle(self.ended, describe(error))

    def _on_blocked(self, reason: str | None, on_blocked: Callable[["Connection"], None]) -> None:
        if reason is None:
            self.unblocked.set()
        else:
            self.unblocked.clear()
        self.blocked_reason = reason or ""
        on_blocked(self)


def describe(error: BaseException) -> str:
    """An error of pika in one line; its own texts are often empty."""
    with contextlib.suppress(AttributeError):
        return f"{getattr(error, 'reply_code')} {getattr(error, 'reply_text')}"  # noqa: B009 (optional attributes)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _innermost(error: BaseException) -> BaseException:
    """What really happened: pika wraps a socket's error up to three times, not always in an AMQPError."""
    while True:
        nested = (*getattr(error, "exceptions", ()), getattr(error, "exception", None), *error.args)
        causes = [inner for inner in nested if isinstance(inner, BaseException)]
        if not causes:
            return error
        error = causes[-1]


def _settle(future: "asyncio.Future[Any]", value: object) -> None:
    if not future.done():
        future.set_result(value)
