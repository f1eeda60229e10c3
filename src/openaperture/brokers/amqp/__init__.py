"""Broker adapter for AMQP 0-9-1 (RabbitMQ)."""

from openaperture.brokers.amqp.broker import AmqpBroker

__all__ = ["AmqpBroker"]
