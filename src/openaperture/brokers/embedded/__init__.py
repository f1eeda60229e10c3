"""The embedded broker: durable queues in the SQLite file of its process, no server.

broker.py     the Broker port
consumer.py   the Consumer port
queue.py      one queue in memory: what is ready, and who gets it
ledger.py     the rows: what outlives the process
"""

from openaperture.brokers.embedded.broker import EmbeddedBroker

__all__ = ["EmbeddedBroker"]
