"""The settings: their names, types and defaults, and what must hold between them.

Knows nothing of where a value came from. docs/reference/configuration.md lists the same settings, and a
test fails when the two differ.
"""

import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from openaperture.config.values import (
    EMBEDDED,
    Approvers,
    Attempts,
    BatchSize,
    BrokerUrl,
    DatabaseUrl,
    Environment,
    FailureKinds,
    Flag,
    Folder,
    Folders,
    HttpUrl,
    Names,
    Networks,
    Notices,
    OutboxLimit,
    Port,
    Queue,
    Queues,
    Seconds,
    Secret,
    SecretUrl,
    Slots,
    Text,
    is_loopback,
    split_url,
)
from openaperture.domain.milestones import ApprovalRule, MilestoneKind, OnExpiry, OnLoss, table_of
from openaperture.domain.routes import ExchangeBy

DATA_DIR = Path(".openaperture")


class Section(BaseModel):
    """A table of the file. Its input never appears in pydantic's own errors: it may be a secret."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class OrchestratorSettings(Section):
    """How an orchestrator works."""

    batch: BatchSize = 200
    relay_window: BatchSize = 200
    outbox_limit: OutboxLimit = 20_000
    poll_seconds: Seconds = 0.5
    grace_seconds: Seconds = 25.0


class WorkerSettings(Section):
    """How a command worker works. Some defaults follow other settings: `Settings.completed` fills them in."""

    queues: Queues = ()
    slots: Slots = 2
    work_dir: Folder = DATA_DIR / "work"
    artifacts_dir: Folder = DATA_DIR / "artifacts"
    local_repositories: Folders = ()
    private_networks: Networks = ()
    environment: Environment = Field(default_factory=dict, repr=False)
    grace_seconds: Seconds = 20.0


class OidcSettings(Section):
    """Login of people at an OpenID Connect provider. Off without an issuer."""

    issuer: HttpUrl | None = None
    client_id: Text | None = None
    client_secret: Secret | None = None
    scopes: Names = ("openid", "profile", "email")
    name_claim: Text = "preferred_username"
    role_claim: Text = "groups"
    group_claim: Text = "groups"
    viewers: Names = ()
    operators: Names = ()
    admins: Names = ()

    def clashes(self) -> Iterator["Clash"]:
        key = ("manager", "oidc", "issuer")
        if self.issuer is None:
            return
        if _is_open(self.issuer):
            yield Clash(keys=(key,), text="logins would be read and forged on the way; write https://")
        if self.client_id is None:
            yield Clash(
                keys=(key, (*key[:2], "client_id")), text="the provider has to know us; write client_id as well"
            )
        if not (self.viewers or self.operators or self.admins):
            text = f"nobody could log in; write which values of {self.role_claim} are viewers, operators or admins"
            yield Clash(keys=(key, (*key[:2], "viewers")), text=text)


class ManagerSettings(Section):
    """Where the Manager's API listens and who may use it; and which Manager commands talk to."""

    host: Text = "127.0.0.1"
    port: Port = 0
    public_url: HttpUrl | None = None
    trusted_proxies: Networks = ()
    token_seconds: Seconds = 3_600.0
    url: HttpUrl | None = None
    token: Secret | None = None
    oidc: OidcSettings = OidcSettings()

    def clashes(self) -> Iterator["Clash"]:
        yield from self.oidc.clashes()
        if self.oidc.issuer and self.public_url is None and not is_loopback(self.host):
            text = "the login service sends browsers back to where it knows us; write manager.public_url as well"
            yield Clash(keys=(("manager", "oidc", "issuer"), ("manager", "public_url")), text=text)
        if self.token is not None and self.url is None:
            text = "it is of no use without the Manager that it is for; write manager.url as well"
            yield Clash(keys=(("manager", "token"), ("manager", "url")), text=text)


class MilestoneSection(Section):
    """A `[milestones.NAME]` table. What is missing comes from the built-in kind of that name, if there is one."""

    queue: Queue | None = None
    exchange_id: Text | None = None
    module_type: Text | None = None
    on_loss: OnLoss | None = None
    retry_on: FailureKinds | None = None
    max_attempts: Attempts | None = None
    pickup_seconds: Seconds | None = None
    pickup_limit_seconds: Seconds | None = None
    heartbeat_seconds: Seconds | None = None
    run_seconds: Seconds | None = None
    approval_role: Text | None = None
    approvals: Approvers | None = None
    approval_not_author: Flag | None = None
    approval_expires_seconds: Seconds | None = None
    approval_on_expiry: OnExpiry | None = None

    def kind(self, name: str) -> MilestoneKind:
        """A new kind's queue has the kind's own name unless the section says otherwise."""
        base = table_of().get(name) or MilestoneKind(name=name, queue=name)
        given = {
            field: value
            for field in type(self).model_fields
            if not field.startswith("approval") and (value := getattr(self, field)) is not None
        }
        if self.exchange_id is not None:
            given["exchange_by"] = ExchangeBy.FIXED
        if self.approval_role is not None or base.approval is not None:
            given |= {"approval": self._rule(base.approval or ApprovalRule()), "queue": None}
        return replace(base, **given)

    def _rule(self, base: ApprovalRule) -> ApprovalRule:
        given: dict[str, Any] = {
            "role": self.approval_role,
            "required": self.approvals,
            "not_author": self.approval_not_author,
            "expires_seconds": self.approval_expires_seconds,
            "on_expiry": self.approval_on_expiry,
        }
        return replace(base, **{name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True, slots=True, kw_only=True)
class Clash:
    """Settings that are fine one by one and cannot be used together. The first key is the one to change."""

    keys: tuple[tuple[str, ...], ...]
    text: str


class Settings(Section):
    """The effective settings of a process."""

    data_dir: Folder = DATA_DIR
    database: DatabaseUrl = SecretUrl("")
    broker: BrokerUrl = SecretUrl(EMBEDDED)
    declare_queues: Flag = True
    queue_name: Queue = "workflow_orchestration"
    exchange_id: Text | None = None
    broker_id: Text | None = None
    hostname: Text = Field(default_factory=socket.gethostname)
    token_key: Secret | None = Field(default=None, min_length=16)
    manager_url: HttpUrl | None = None
    oauth_login_url: HttpUrl | None = None
    oauth_client_id: Text | None = None
    oauth_client_secret: Secret | None = None
    ui_url: HttpUrl | None = None
    notices: Notices = "off"
    orchestrator: OrchestratorSettings = OrchestratorSettings()
    worker: WorkerSettings = WorkerSettings()
    manager: ManagerSettings = ManagerSettings()
    milestone_sections: dict[str, MilestoneSection] = Field(default_factory=dict, alias="milestones")

    @property
    def milestones(self) -> tuple[MilestoneKind, ...]:
        """The kinds that the configuration defines or overrides."""
        return tuple(section.kind(name) for name, section in self.milestone_sections.items())

    @property
    def routes_by_own_tables(self) -> bool:
        """Whether requests go to exchanges of our own directory. The embedded broker has none."""
        return self.manager_url is None and self.exchange_id is not None and self.broker != EMBEDDED

    def completed(self) -> "Settings":
        """These settings with the defaults that follow from others."""
        data_dir = Path.cwd() / self.data_dir
        embedded = self.broker == EMBEDDED
        # Elsewhere, a kind that the configuration adds has workers of its own.
        served = table_of(self.milestones if embedded else ())
        queues = {kind.queue for kind in served.values() if kind.queue}
        follows: dict[str, object] = {
            "queues": tuple(sorted(queues)),
            "work_dir": data_dir / "work",
            "artifacts_dir": data_dir / "artifacts",
            # With the embedded broker everything runs as one user, who can read these repositories anyway.
            "local_repositories": ("/",) if embedded else (),
        }
        unset = {name: value for name, value in follows.items() if name not in self.worker.model_fields_set}
        update: dict[str, object] = {"data_dir": data_dir, "worker": self.worker.model_copy(update=unset)}
        if self.manager_url and "notices" not in self.model_fields_set:
            update["notices"] = "terms"
        if not self.database and embedded:
            update["database"] = SecretUrl(f"sqlite:///{data_dir / 'openaperture.db'}")
        return self.model_copy(update=update)

    def clashes(self) -> Iterator[Clash]:
        """What cannot be used together."""
        if self.broker == EMBEDDED and self.database and not self.database.startswith("sqlite:"):
            text = 'the embedded broker lives in a SQLite file; with PostgreSQL write broker = "amqps://…" as well'
            yield Clash(keys=(("broker",), ("database",)), text=text)
        needed = ("exchange_id", "broker_id", "oauth_login_url", "oauth_client_id", "oauth_client_secret")
        missing = [name for name in needed if getattr(self, name) is None]
        if self.manager_url and missing:
            text = f"a Manager elsewhere has to know who we are and where; write {', '.join(missing)} as well"
            yield Clash(keys=(("manager_url",), *((name,) for name in missing)), text=text)
        if self.routes_by_own_tables and self.broker_id is None:
            text = (
                "requests go by the exchanges of our own directory; write broker_id, the id of our broker, as well"
            )
            yield Clash(keys=(("exchange_id",), ("broker_id",)), text=text)
        yield from self.manager.clashes()
        yield from self._milestone_clashes()

    def _milestone_clashes(self) -> Iterator[Clash]:
        for kind in self.milestones:
            key = ("milestones", kind.name)
            built_in = table_of().get(kind.name)
            if built_in is not None and built_in.queue is None and kind.approval is None:
                yield Clash(keys=(key,), text="the orchestrator handles this milestone itself; remove the section")
            if kind.approval is not None and self.milestone_sections[kind.name].queue is not None:
                text = "people decide about an approval, and no worker does; remove the queue"
                yield Clash(keys=((*key, "queue"),), text=text)
            if kind.queue == self.queue_name:
                text = f'"{kind.queue}" is the queue of the orchestrators; name another one for the workers'
                yield Clash(keys=((*key, "queue"), ("queue_name",)), text=text)
            if kind.pickup_limit_seconds < kind.pickup_seconds:
                text = f"write at least the {kind.pickup_seconds:g} seconds of pickup_seconds"
                yield Clash(keys=((*key, "pickup_limit_seconds"), (*key, "pickup_seconds")), text=text)

    def warnings(self) -> list[str]:
        """Sentences about settings that work and are not safe, or have no effect. They hold no secret."""
        found = list(self._broker_warnings())
        if not is_loopback(self.manager.host) and not (self.manager.public_url or "").startswith("https:"):
            found.append(
                f"manager.host is {self.manager.host}: the API is served without encryption beyond this machine; "
                "put a proxy with TLS in front of it and name it in manager.public_url, or write 127.0.0.1"
            )
        found.extend(
            f"{name} sends our credentials without encryption; write https://"
            for name, url in (
                ("manager_url", self.manager_url),
                ("oauth_login_url", self.oauth_login_url),
                ("manager.url", self.manager.url),
            )
            if _is_open(url)
        )
        return found

    def _broker_warnings(self) -> Iterator[str]:
        if self.broker == EMBEDDED:
            return
        parts = split_url(self.broker)
        if is_loopback(parts.hostname):
            return
        if parts.scheme == "amqp":
            yield f"messages and the broker's password go to {parts.hostname} without encryption; write amqps://"
        if parts.username in {None, "", "guest"}:
            yield (
                f"the broker user is guest, whose password everyone knows and which RabbitMQ refuses from other "
                f"machines; make a user on {parts.hostname} and name it in broker"
            )


def _is_open(url: str | None) -> bool:
    """Whether what goes there can be read by others on the way."""
    return url is not None and url.startswith("http:") and not is_loopback(split_url(url).hostname)
