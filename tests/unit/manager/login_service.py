"""A login service over HTTP, for tests: discovery, keys, authorization, tokens. It logs in whoever comes."""

import json
import secrets
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

CLIENT_ID = "openaperture"
CLIENT_SECRET = "secret-of-the-manager"


def key_pair(kind: str = "RS256") -> Any:
    if kind == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65_537, key_size=2_048)


@dataclass
class LoginService:
    """What it does can be changed while it runs."""

    url: str = ""
    claims: dict[str, Any] = field(default_factory=lambda: {"preferred_username": "ada", "groups": ["developers"]})
    """Of everybody who logs in, beside those that the service itself sets."""
    algorithm: str = "RS256"
    key: Any = field(default_factory=key_pair)
    key_id: str = "k1"
    published: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    discovery: dict[str, Any] = field(default_factory=dict[str, Any])
    """Replaces what it says of itself."""
    status: int = 200
    """Of its token endpoint."""
    asked: list[str] = field(default_factory=list[str])
    pending: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    key_requests: int = 0

    def publish(self) -> None:
        """The current key, beside those that were published before."""
        algorithm = jwt.get_algorithm_by_name(self.algorithm)
        public = json.loads(algorithm.to_jwk(self.key.public_key()))
        self.published.append({**public, "kid": self.key_id, "use": "sig"})

    def token(self, *, headers: dict[str, Any] | None = None, key: Any = None, **claims: Any) -> str:
        """A signed token; a claim that is None is left out."""
        now = int(time.time())
        whole = {
            "iss": self.url,
            "aud": CLIENT_ID,
            "sub": "1",
            "iat": now,
            "exp": now + 300,
            **self.claims,
            **claims,
        }
        given = {name: value for name, value in whole.items() if value is not None}
        return jwt.encode(given, key or self.key, self.algorithm, headers={"kid": self.key_id, **(headers or {})})

    # --------------------------------------------------------------------------------- its answers

    def describe(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            **self.discovery,
        }

    def authorize(self, query: dict[str, str]) -> str:
        """Where the browser is sent, with a code."""
        code = secrets.token_urlsafe(8)
        self.pending[code] = query
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"

    def exchange(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """It checks what a real one checks: code, client, redirect and PKCE."""
        begun = self.pending.pop(form.get("code", ""), None)
        challenge = (
            urlsafe_b64encode(sha256(form.get("code_verifier", "").encode()).digest()).rstrip(b"=").decode()
        )
        if (
            begun is None
            or begun["code_challenge"] != challenge
            or begun["redirect_uri"] != form["redirect_uri"]
            or (form["client_id"], form.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET)
        ):
            return 400, {"error": "invalid_grant"}
        return self.status, {"id_token": self.token(nonce=begun["nonce"]), "token_type": "Bearer"}


@contextmanager
def running_login_service() -> Generator[LoginService]:
    service = LoginService()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            service.asked.append(parts.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            match parts.path:
                case "/.well-known/openid-configuration":
                    self.answer(200, service.describe())
                case "/keys":
                    service.key_requests += 1
                    self.answer(200, {"keys": service.published})
                case "/authorize":
                    self.send_response(302)
                    self.send_header("location", service.authorize(query))
                    self.end_headers()
                case _:
                    self.answer(404, {})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            self.answer(*service.exchange(form))

        def answer(self, status: int, document: dict[str, Any]) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
            """Quietly."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        service.url = f"http://127.0.0.1:{server.server_address[1]}"
        service.publish()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield service
        finally:
            server.shutdown()
            thread.join()
