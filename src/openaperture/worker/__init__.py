"""The worker SDK: serve milestones of workflows from any Python program.

    from openaperture.worker import Context, Worker

    worker = Worker(queue="builder")

    @worker.milestone("build")
    def build(context: Context) -> dict[str, str]:
        context.log("compiling")
        return {"image": "shop:1.2"}

    worker.run("amqp://guest:guest@localhost:5672/")

See docs/reference/worker-protocol.md for what goes over the wire.
"""

from openaperture.domain.errors import MilestoneFailed
from openaperture.worker.context import Context
from openaperture.worker.worker import Worker

__all__ = ["Context", "MilestoneFailed", "Worker"]
