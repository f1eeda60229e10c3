"""Messages for Notifications modules: as Erlang terms for the original's, as JSON for others."""

from collections.abc import Sequence

import msgspec

from openaperture.codecs import terms
from openaperture.domain.messages import JSON_CONTENT_TYPE
from openaperture.domain.notes import Email


class TermNotices:
    """As modules of the original read them."""

    content_type: str | None = None

    def note(self, *, success: bool, prefix: str, text: str, rooms: Sequence[str] | None) -> bytes:
        return terms.encode_notice(success=success, prefix=prefix, text=text, rooms=rooms)

    def email(self, email: Email) -> bytes:
        return terms.encode_email(subject=email.subject, text=email.text, addresses=email.addresses)


class JsonNotices:
    """The same fields, as JSON objects."""

    content_type: str | None = JSON_CONTENT_TYPE

    def note(self, *, success: bool, prefix: str, text: str, rooms: Sequence[str] | None) -> bytes:
        return msgspec.json.encode({"is_success": success, "prefix": prefix, "message": text, "room_names": rooms})

    def email(self, email: Email) -> bytes:
        recipients = {"email_addresses": email.addresses}
        return msgspec.json.encode({"prefix": email.subject, "message": email.text, "notifications": recipients})
