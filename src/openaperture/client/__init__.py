"""A typed HTTP client of a Manager."""

from openaperture.client.client import ManagerClient
from openaperture.client.models import NewWorkflow

__all__ = ["ManagerClient", "NewWorkflow"]
