"""Sends a worker's callbacks, and hears the answers to them."""

import asyncio
from collections.abc import Callable

from openaperture.codecs import json as json_codec
from openaperture.domain.errors import BadMessage, BrokerUnavailable, OpenApertureError
from openaperture.domain.messages import JSON_CONTENT_TYPE, Answer, AnyCallback, Request
from openaperture.ports import Address, Broker, Consumer, Message, Observer
from openaperture.runtime.backoff import Backoff

PUBLISH_SECONDS = 10.0
ANSWERS_AT_ONCE = 500


class Post:
    """Publishes callbacks to where their request says."""

    def __init__(self, broker: Broker, observer: Observer) -> None:
        self._broker = broker
        self._observer = observer
        self._sent = 0

    async def send_once(self, request: Request, callback: AnyCallback) -> bool:
        """Try once; answers whether the broker has it. For what is repeated anyway."""
        try:
            await self._publish(request, callback, self._next_id(request, callback))
        except OpenApertureError as exc:
            self._tell_waiting(request, exc)
            return False
        return True

    async def send(self, request: Request, callback: AnyCallback) -> None:
        """Return when the broker has it, however long that takes. Every copy carries the same message id."""
        message_id = self._next_id(request, callback)
        backoff = Backoff()
        while True:
            try:
                await self._publish(request, callback, message_id)
            except OpenApertureError as exc:
                self._tell_waiting(request, exc)
                await asyncio.sleep(backoff.next_seconds())
            else:
                return

    async def _publish(self, request: Request, callback: AnyCallback, message_id: str) -> None:
        address = Address(exchange=request.callback_exchange, routing_key=request.callback_routing_key)
        message = Message(body=json_codec.encode(callback), content_type=JSON_CONTENT_TYPE, message_id=message_id)
        await self._broker.publish(address, message, timeout_seconds=PUBLISH_SECONDS)

    def _next_id(self, request: Request, callback: AnyCallback) -> str:
        self._sent += 1
        attempt = request.attempt
        key = f"{attempt.generation}.{attempt.position}.{attempt.number}"
        return f"{request.id}.{key}.{callback.worker}.{self._sent}"

    def _tell_waiting(self, request: Request, error: OpenApertureError) -> None:
        self._observer.emit("worker.waiting", workflow_id=request.id, error=error)


class Answers:
    """The queue on which the orchestrator answers this worker, and who waits for what."""

    def __init__(self, worker: str, observer: Observer) -> None:
        self.queue = f"openaperture.worker.{worker}"
        self._observer = observer
        self._listeners: dict[str, Callable[[Answer], None]] = {}

    def listen(self, attempt_token: str, listener: Callable[[Answer], None]) -> None:
        """Call `listener` with each answer about this attempt."""
        self._listeners[attempt_token] = listener

    def forget(self, attempt_token: str, listener: Callable[[Answer], None]) -> None:
        """Unless another listens for that attempt by now."""
        if self._listeners.get(attempt_token) == listener:
            del self._listeners[attempt_token]

    async def run(self, consumer: Consumer) -> None:
        """Hand out answers until cancelled, or until the consumer is closed."""
        while True:
            try:
                deliveries = await consumer.receive(ANSWERS_AT_ONCE)
            except BrokerUnavailable:
                return
            for delivery in deliveries:
                self._hand_out(delivery.message.body)
            await consumer.ack(deliveries)

    def _hand_out(self, body: bytes) -> None:
        try:
            answer = json_codec.decode_answer(body)
        except BadMessage as exc:
            self._observer.emit("answer.unreadable", error=exc)
            return
        if (listener := self._listeners.get(answer.attempt_token)) is not None:
            listener(answer)
