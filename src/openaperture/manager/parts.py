"""What the API is built on."""

from dataclasses import dataclass

from openaperture.engine.revisions import Revisions
from openaperture.engine.verbs import Verbs
from openaperture.ports import EventFeed, ForeignRecords, MessagingDirectory, Records, RequestKeys, Traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """All over one store."""

    verbs: Verbs
    revisions: Revisions
    records: Records
    traffic: Traffic
    directory: MessagingDirectory
    foreign: ForeignRecords
    request_keys: RequestKeys
    feed: EventFeed
