"""Finds where a milestone's workers are, and gets a message there. The facts are the directory's."""

from openaperture.routing.directory import Directory
from openaperture.routing.own import OwnTables
from openaperture.routing.pool import BrokerPool
from openaperture.routing.router import Router

__all__ = ["BrokerPool", "Directory", "OwnTables", "Router"]
