"""What every process of the product is made of, engine or worker: backoff, queues at start, supervision."""
