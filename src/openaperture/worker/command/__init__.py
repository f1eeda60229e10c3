"""The command worker: releases any git repository by what its openaperture.json declares. Linux only.

worker.py       serves the queues, on the SDK       git.py, references.py, addresses.py   the checkout
release.py      one milestone, step by step         process.py, environment.py, output.py the commands
manifest.py     openaperture.json                   artifacts.py, workspace.py            files
"""

from openaperture.worker.command.worker import CommandWorker

__all__ = ["CommandWorker"]
