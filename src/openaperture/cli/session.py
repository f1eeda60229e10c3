"""The Manager that a command talks to: of the `up` on this data folder, or one made for this command."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

from openaperture.app.announcement import Announced, find_running
from openaperture.app.sessions import manager_session, running
from openaperture.cli.speech import say
from openaperture.client import ManagerClient
from openaperture.client.models import EventPage, LogPage, Workflow, WorkflowSummary
from openaperture.config import Settings
from openaperture.domain.errors import (
    AccessRefused,
    ConfigError,
    ManagerUnavailable,
    NothingRuns,
    OpenApertureError,
    UnknownWorkflow,
)
from openaperture.domain.workflow import State

Answer = TypeVar("Answer")
ALONE_SECONDS = 20.0
"""How long nothing may run before a command that only follows a release gives up."""
UNDRIVEN_SECONDS = 5.0
"""The same for a command that can drive the release itself: an `up` that is restarted comes first."""
LISTED_PER_PAGE = 100
STARTING_SECONDS = 5.0
"""How long after a process took the database it may take until it can be found."""
STARTING_CHECKS = 100
SHOWN_CANDIDATES = 5
SEARCHED_PAGES = 50
"""How far back a shortened id is looked for."""
_FULL_ID_CHARACTERS = 36


class Session:
    """A Manager's client that finds a restarted `up` again, whose address and token are new ones."""

    def __init__(
        self,
        client: ManagerClient,
        settings: Settings,
        announced: Announced | None,
        stack: AsyncExitStack,
        *,
        alone_seconds: float = ALONE_SECONDS,
    ) -> None:
        self.client = client
        self._settings = settings
        self._announced: Announced | None = announced
        self._alone_seconds = alone_seconds
        self._alone_since: float | None = None
        self._stack = stack

    @property
    def is_driven(self) -> bool:
        """Whether there may be an orchestrator besides this command: else a workflow only stands still."""
        return self._announced is not None or _is_elsewhere(self._settings)

    def note_if_alone(self, *workflows: WorkflowSummary) -> None:
        """Say so where it is certain that nothing can move what is under way."""
        if not self.is_driven and any(not (each.ended or each.state == State.CREATED) for each in workflows):
            say('note: nothing runs here that drives it; "openaperture up" does')

    async def get_workflow(self, workflow_id: str) -> Workflow:
        return await self._ask(lambda client: client.get_workflow(workflow_id))

    async def list_events(self, workflow_id: str, *, after: int, wait_seconds: float) -> EventPage:
        return await self._ask(
            lambda client: client.list_events(workflow_id, after=after, wait_seconds=wait_seconds)
        )

    async def list_logs(
        self,
        workflow_id: str,
        *,
        after: int,
        wait_seconds: float,
        attempt: str | None = None,
        tail: int | None = None,
    ) -> LogPage:
        return await self._ask(
            lambda client: client.list_logs(
                workflow_id, after=after, wait_seconds=wait_seconds, attempt=attempt, tail=tail
            )
        )

    async def find_id(self, given: str) -> str:
        """The one id that begins like this. Raises UnknownWorkflow when none or several do."""
        given = given.lower()
        if len(given) >= _FULL_ID_CHARACTERS or not given:
            return given
        found: list[str] = []
        cursor: str | None = None
        for _ in range(SEARCHED_PAGES):
            page = await self.client.list_workflows(limit=LISTED_PER_PAGE, cursor=cursor)
            found += [workflow.id for workflow in page.workflows if workflow.id.startswith(given)]
            if (cursor := page.next_cursor) is None:
                break
        if len(found) == 1:
            return found[0]
        if found:
            some = ", ".join(found[:SHOWN_CANDIDATES]) + (", …" if len(found) > SHOWN_CANDIDATES else "")
            raise UnknownWorkflow(f"{len(found)} workflows begin with {given}; write more of the id: {some}")
        raise UnknownWorkflow(f'no workflow begins with {given}; "openaperture list" shows those that are')

    async def _ask(self, question: Callable[[ManagerClient], Awaitable[Answer]]) -> Answer:
        client = self.client
        try:
            return await question(client)
        except (ManagerUnavailable, AccessRefused) as exc:
            # Another task may have found the restarted one in the meantime.
            if client is self.client and not await self._renewed():
                if self._announced is not None and find_running(self._settings.data_dir) is None:
                    raise self._nothing_runs() from exc
                raise
            return await question(self.client)

    def _nothing_runs(self) -> OpenApertureError:
        """To be asked again at first: an `up` that is being restarted is back soon."""
        now = asyncio.get_running_loop().time()
        self._alone_since = now if self._alone_since is None else self._alone_since
        text = 'no orchestrator runs here any more; start one with "openaperture up" and the release goes on'
        return NothingRuns(text) if now - self._alone_since > self._alone_seconds else ManagerUnavailable(text)

    async def _renewed(self) -> bool:
        """Talk to the `up` that runs now, if it is another one than before."""
        if self._announced is None:
            return False
        now: Announced | None = find_running(self._settings.data_dir)
        if now is None or now == self._announced:
            return False
        self.client = await self._stack.enter_async_context(ManagerClient(now.url, now.token))
        self._announced = now
        self._alone_since = None
        return True


@asynccontextmanager
async def open_session(settings: Settings) -> AsyncGenerator[Session]:
    """The API for a command that looks or asks, and drives nothing itself."""
    announced = _find_here(settings)
    async with AsyncExitStack() as stack, manager_session(settings) as client:
        yield Session(client, settings, announced, stack)


@asynccontextmanager
async def open_driving_session(settings: Settings) -> AsyncGenerator[Session]:
    """The API with something behind it that drives releases: what runs already, else this very process."""
    announced = _find_here(settings)
    async with AsyncExitStack() as stack:
        if announced is not None or _is_elsewhere(settings):
            client = await stack.enter_async_context(manager_session(settings))
        else:
            try:
                client = await stack.enter_async_context(running(settings))
            except ConfigError:
                # Another command was faster by a moment, and has the database: it drives this release too.
                announced = await _soon_running(settings)
                if announced is None:
                    raise
                client = await stack.enter_async_context(manager_session(settings))
        yield Session(client, settings, announced, stack, alone_seconds=UNDRIVEN_SECONDS)


def _is_elsewhere(settings: Settings) -> bool:
    """Whether orchestrators may run that have nothing to do with this data folder."""
    return settings.broker != "embedded" or settings.manager.url is not None


def _find_here(settings: Settings) -> Announced | None:
    """The process on this data folder, unless the settings name another Manager."""
    return None if settings.manager.url is not None else find_running(settings.data_dir)


async def _soon_running(settings: Settings) -> Announced | None:
    """The process that has just taken the database, once it answers."""
    for _ in range(STARTING_CHECKS):
        if (announced := find_running(settings.data_dir)) is not None:
            return announced
        await asyncio.sleep(STARTING_SECONDS / STARTING_CHECKS)
    return None
