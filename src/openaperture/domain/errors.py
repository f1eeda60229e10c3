"""Every error the product raises on purpose.

    OpenApertureError
    ├── BadInput            the sender's fault: dead-letter it, answer 4xx, never try again
    │   ├── BadMessage      a message that cannot be decoded or breaks its schema
    │   │   └── CodecError  bytes that are no Erlang term we take, or a value that is no such term
    │   ├── BadReference    a repository or ref that the allow-list refuses
    │   ├── BadManifest     an openaperture.json that cannot be used
    │   ├── UnknownWorkflow no workflow has this id
    │   ├── UnknownEntry    the messaging directory has no such entry
    │   ├── Taken           there is or was one of this name, and may be one only
    │   ├── WrongState      what was asked for does not fit the state of the workflow
    │   └── NotAllowed      whoever asks has no say in that
    ├── MilestoneFailed     what a milestone ran did not succeed: a command, its time limit, its outputs
    ├── ConfigError         settings that cannot be used; lists every problem at once
    ├── TryLater            nothing is wrong with the input: back off and repeat
    │   ├── StoreUnavailable
    │   │   └── StoreFull   the disk under the store is full
    │   ├── BrokerUnavailable
    │   │   └── Unconfirmed published, but no confirm came: it may or may not have arrived
    │   ├── ManagerUnavailable
    │   ├── Overloaded      too much is under way for anything new to begin
    │   ├── Contested       others change the same thing all the while
    │   └── LoginUnavailable the login service of people cannot be reached
    ├── Unroutable          the broker answered: no queue takes this message
    ├── QueueMismatch       a queue exists with other arguments than we need, or does not exist
    ├── RouteRefused        a milestone has nowhere to go; says which of the known conditions it is
    ├── AccessRefused       a Manager does not accept our token
    │   └── LoginRefused    the login service does not accept our client id and secret
    ├── NothingRuns         no orchestrator runs that could move a workflow
    ├── UnusableAnswer      what answers at a Manager's URL does not speak as one
    └── IllegalMove         our own bug: a decision outside the table of moves

Adapters translate at their edge and keep the cause (``raise … from exc``).
"""

from openaperture.domain.milestones import FailureKind


class OpenApertureError(Exception):
    """Root of the tree. The text is one sentence for a person: what, which id, what to do."""


class BadInput(OpenApertureError):
    """The sender's fault. Repeating it cannot help."""


class BadMessage(BadInput):
    """A message that cannot be decoded or does not fit its schema."""


class CodecError(BadMessage):
    """Bytes that are no Erlang term, or one outside what we take; on the way out, a value that fits none."""


class BadReference(BadInput):
    """A repository or git ref that the allow-list refuses."""


class BadManifest(BadInput):
    """An openaperture.json that is missing, unreadable or declares something impossible."""


class UnknownWorkflow(BadInput):
    """No workflow has this id."""


class UnknownEntry(BadInput):
    """The messaging directory has no such entry."""


class Taken(BadInput):
    """There is such an entry or client already, or was one, and there may be one only."""


class WrongState(BadInput):
    """What was asked for does not fit the state of the workflow; the text says what does."""


class NotAllowed(BadInput):
    """Whoever asks has no say in that; the text says who has."""


class MilestoneFailed(OpenApertureError):
    """A milestone ran and did not succeed. The text is shown to people as the reason."""

    def __init__(self, message: str, *, kind: FailureKind = FailureKind.CRASHED) -> None:
        """`kind` decides whether it is tried again."""
        super().__init__(message)
        self.kind = kind


class ConfigError(OpenApertureError):
    """Settings that cannot be used."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class TryLater(OpenApertureError):
    """A passing fault of something we depend on."""


class StoreUnavailable(TryLater):
    """The database does not answer. A write that raised this may or may not have committed."""


class StoreFull(StoreUnavailable):
    """The database has no room to write. Nothing was saved."""


class BrokerUnavailable(TryLater):
    """No session with the broker right now. Nothing was published."""


class Unconfirmed(BrokerUnavailable):
    """The broker neither confirmed nor refused a publish in time: its outcome is unknown."""


class ManagerUnavailable(TryLater):
    """A Manager cannot be reached or cannot answer. What was asked for may or may not have been done."""


class Overloaded(TryLater):
    """So much waits to be sent that nothing new begins. Nothing was done."""


class Contested(TryLater):
    """Others changed what was to be changed, again and again. Nothing was done."""


class LoginUnavailable(TryLater):
    """The service at which people log in cannot be reached, or answers nothing that can be used."""


class Unroutable(OpenApertureError):
    """The broker has no such exchange, or no queue takes this routing key."""


class QueueMismatch(OpenApertureError):
    """A queue is missing, or was declared by someone else with other arguments."""


class AccessRefused(OpenApertureError):
    """A Manager does not accept the access token that it was shown."""


class LoginRefused(AccessRefused):
    """The login service gives us no token: it does not accept the client id and secret of the configuration."""


class RouteRefused(OpenApertureError):
    """There is nowhere to send a milestone. Waiting does not help: the workflow ends, and this says why."""

    def __init__(self, condition: str, sentence: str) -> None:
        """`condition` is a stable key, such as `no_builders`; `sentence` says what to do."""
        super().__init__(sentence)
        self.condition = condition


class NothingRuns(OpenApertureError):
    """No orchestrator runs that could move a workflow, and none has come for a while."""


class UnusableAnswer(OpenApertureError):
    """An answer that no Manager gives: something else listens at that URL, or another version."""


class IllegalMove(OpenApertureError):
    """A decision that the table of moves does not allow."""
