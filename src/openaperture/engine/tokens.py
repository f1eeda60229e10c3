"""Attempt tokens: which attempt a callback speaks for, proven by a keyed hash.

A token is `<generation>.<position>.<number>.<mac>`, where mac is HMAC-SHA256 over the workflow id and
the attempt key. No token is stored. The key is, in the database, unless the settings give one: then a copy
of the database forges nothing.
"""

import hmac
from base64 import urlsafe_b64encode
from hashlib import sha256

from openaperture.domain.attempts import AttemptKey


class TokenMint:
    """Makes and checks attempt tokens. All orchestrators of one database share the key."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    def mint(self, workflow_id: str, key: AttemptKey) -> str:
        return f"{key}.{self._mac(workflow_id, str(key))}"

    def find_key(self, workflow_id: str, token: str) -> AttemptKey | None:
        """The attempt that the token proves, or None when it was not made by us for this workflow."""
        name, _, mac = token.rpartition(".")
        if not hmac.compare_digest(self._mac(workflow_id, name).encode(), mac.encode(errors="surrogatepass")):
            return None
        generation, position, number = (int(part) for part in name.split("."))
        return AttemptKey(generation=generation, position=position, number=number)

    def _mac(self, workflow_id: str, name: str) -> str:
        digest = hmac.new(self._key, f"{workflow_id}\n{name}".encode(errors="surrogatepass"), sha256).digest()
        return urlsafe_b64encode(digest).decode().rstrip("=")
