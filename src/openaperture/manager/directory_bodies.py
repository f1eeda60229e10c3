"""The bodies of the directory's routes. Unknown fields and wrong types are refused, all of them at once."""

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue

from openaperture.manager.requests import Strict, number, plain

MAX_NAME_CHARS = 128
_TOKEN = re.compile(r"[!-.0-~]+")
"""Printable ASCII without blanks and without "/": it is a segment of paths."""


def _token(text: str) -> str:
    if not _TOKEN.fullmatch(text) or text in {".", ".."}:
        raise ValueError('has characters that a path cannot have; use ASCII without blanks and "/"')
    return text


Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS), AfterValidator(plain)]
Line = Annotated[str, Field(max_length=256), AfterValidator(plain)]
Token = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_token)]
Number = Annotated[int, BeforeValidator(number), Field(ge=1, le=2**63 - 1)]
PortNumber = Annotated[int, BeforeValidator(number), Field(ge=1, le=65_535)]


class ExchangeBody(Strict):
    name: Name
    failover_exchange_id: Number | None = None
    parent_exchange_id: Number | None = None
    routing_key_fragment: Annotated[str, Field(max_length=200), AfterValidator(plain)] | None = None


class BrokerBody(Strict):
    name: Name
    failover_broker_id: Number | None = None


class ConnectionBody(Strict):
    """How to reach a broker. The original takes no port, and then always means 5672."""

    host: Annotated[str, Field(min_length=1, max_length=253), AfterValidator(plain)]
    username: Line | None = None
    password: Annotated[str, Field(max_length=1_024)] | None = Field(default=None, repr=False)
    port: PortNumber | None = None
    virtual_host: Line | None = None


class RestrictionBody(Strict):
    messaging_broker_id: Number


class ClusterChange(Strict):
    name: Line | None = None
    hosting_provider_id: Number | None = None
    allow_docker_builds: bool | None = None
    messaging_exchange_id: Number | None = None


class ClusterBody(ClusterChange):
    etcd_token: Token


class ModuleBody(Strict):
    """A worker process. All of the original's four fields are required."""

    hostname: Annotated[str, Field(min_length=1, max_length=253), AfterValidator(_token)]
    type: Name
    status: Name
    workload: list[JsonValue]
    source_repo: Line | None = None
    source_repo_git_ref: Line | None = None
    deployment_repo: Line | None = None
    deployment_repo_git_ref: Line | None = None


class SystemEventBody(Strict):
    type: Name
    severity: Name
    message: Annotated[str, Field(max_length=65_536)] | None = None
    data: JsonValue = None
    unique: bool | None = None
