"""Finds where a milestone's workers are, and gets a message there. The facts are the Manager's."""

from openaperture.routing.directory import Directory
from openaperture.routing.pool import BrokerPool
from openaperture.routing.router import Router

__all__ = ["BrokerPool", "Directory", "Router"]
