"""A Manager and an OAuth2 server over HTTP: they answer from the tables of a case and write down what is asked."""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.compat.journal import Call, Journal
from tests.compat.notation import rfc1123

LOGIN_PATH = "/oauth/token"
NO_BODY = object()
Answer = tuple[int, Any]


@dataclass
class Tables:
    """What the Manager knows. Threads of the server and of the runner use it: always under `lock`."""

    content: Mapping[str, Any]
    """In the form of the cases: exchanges, brokers, broker_connections, exchange_brokers, modules, clusters."""
    workflows: dict[str, dict[str, Any]] = field(default_factory=dict)
    forced: dict[str, int] = field(default_factory=dict)
    """Status by "METHOD /path"; takes precedence over what the tables say."""
    token_seconds: float = 3600
    tokens: dict[str, float] = field(default_factory=dict)
    """Token to when it ends, on the clock of time.monotonic()."""
    lock: threading.RLock = field(default_factory=threading.RLock)
    _module_looks: dict[str, int] = field(default_factory=dict)

    def answer(self, method: str, path: str, query: Mapping[str, str], body: Any) -> Answer:
        with self.lock:
            if (status := self.forced.get(f"{method} {path}")) is not None:
                return status, {"errors": [{"message": "this was to be so"}]}
            match method, path.strip("/").split("/"):
                case "GET", ["workflows", workflow_id]:
                    return _found(self.workflows.get(workflow_id))
                case "PUT", ["workflows", workflow_id]:
                    return self._save(workflow_id, body)
                case "GET", ["clusters"]:
                    return 200, self._clusters(None, query)
                case "GET", ["clusters", token]:
                    return _found(_first(self.content["clusters"], etcd_token=token))
                case "GET", ["messaging", "brokers", broker_id]:
                    return _found(_first(self.content["brokers"], id=int(broker_id)))
                case "GET", ["messaging", "brokers", broker_id, "connections"]:
                    return _found(self.content["broker_connections"].get(broker_id))
                case _, ["messaging", "exchanges", exchange_id, *rest]:
                    return self._answer_about_exchange(method, exchange_id, rest, query)
                case "POST", ["system_events"]:
                    return 201, NO_BODY
            return 404, NO_BODY

    def _answer_about_exchange(
        self, method: str, exchange_id: str, rest: list[str], query: Mapping[str, str]
    ) -> Answer:
        exchange = _first(self.content["exchanges"], id=int(exchange_id)) if exchange_id.isdigit() else None
        if exchange is None:
            return 404, NO_BODY
        match method, rest:
            case "GET", []:
                return 200, exchange
            case "GET", ["clusters"]:
                return 200, self._clusters(int(exchange_id), query)
            case "GET", ["brokers"]:
                return 200, self.content["exchange_brokers"].get(exchange_id, [])
            case "GET", ["modules"]:
                return 200, self._modules(exchange_id)
            case "POST", ["modules"]:
                return 201, NO_BODY
            case "DELETE", ["modules", _]:
                return 204, NO_BODY
        return 404, NO_BODY

    def _clusters(self, exchange_id: int | None, query: Mapping[str, str]) -> list[Any]:
        builds_only = query.get("allow_docker_builds") == "true"
        return [
            cluster
            for cluster in self.content["clusters"]
            if (exchange_id is None or cluster["messaging_exchange_id"] == exchange_id)
            and (cluster["allow_docker_builds"] or not builds_only)
        ]

    def _modules(self, exchange_id: str) -> list[Any]:
        """All alive just now. A `module_sequence` gives each look-up its own answer, the last one for ever."""
        fresh = {"messaging_exchange_id": int(exchange_id), "updated_at": rfc1123(time.time(), "UTC")}
        fresh["inserted_at"] = fresh["updated_at"]
        modules = self.content["modules"].get(exchange_id, [])
        if sequence := self.content.get("module_sequence", {}).get(exchange_id):
            look = self._module_looks.get(exchange_id, 0)
            self._module_looks[exchange_id] = look + 1
            types = sequence[min(look, len(sequence) - 1)]
            modules = [module for module in modules if module["type"] in types]
        return [{"id": number} | module | fresh for number, module in enumerate(modules, 1)]

    def _save(self, workflow_id: str, body: Any) -> Answer:
        if workflow_id not in self.workflows:
            return 404, NO_BODY
        if not isinstance(body, dict):
            return 400, {"body": "is no object"}
        self.workflows[workflow_id] |= body
        return 204, NO_BODY

    def log_in(self, body: Any) -> Answer:
        """A new token for whoever knows the secret."""
        if body != {"grant_type": "client_credentials", "client_id": "id", "client_secret": "secret"}:
            return 401, {"error": "invalid_client"}
        with self.lock:
            token = f"TOKEN{len(self.tokens) + 1}"
            self.tokens[token] = time.monotonic() + self.token_seconds
        return 200, {"access_token": token, "expires_in": self.token_seconds, "token_type": "bearer"}

    def admits(self, authorization: str) -> bool:
        with self.lock:
            ends = self.tokens.get(authorization.removeprefix("Bearer access_token="), 0.0)
            return authorization.startswith("Bearer access_token=") and time.monotonic() < ends


@contextmanager
def serving(tables: Tables, journal: Journal, group: str) -> Iterator[str]:
    """The address of a server that answers from `tables`, on loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        timeout = 60

        def _handle(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            query = {key: values[-1] for key, values in parse_qs(url.query).items()}
            with tables.lock:  # so that records have the order of their effects
                status, answer = self._answer(url.path, query, body)
                journal.add(
                    Call(
                        at=time.time(),
                        group=group,
                        method=self.command,
                        path=url.path,
                        query=url.query,
                        headers=dict(self.headers.items()),
                        body=body,
                        status=status,
                    )
                )
            self._send(status, answer)

        do_GET = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815 - the names that the base class looks for

        def _answer(self, path: str, query: Mapping[str, str], body: bytes) -> Answer:
            try:
                content = json.loads(body) if body else None
            except ValueError:
                return 400, {"body": "is no JSON"}
            if path == LOGIN_PATH and self.command == "POST":
                return tables.log_in(content)
            if not tables.admits(self.headers.get("Authorization", "")):
                return 401, "Unauthorized"
            return tables.answer(self.command, path, query, content)

        def _send(self, status: int, answer: Any) -> None:
            body = b"" if answer is NO_BODY else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json; charset=utf-8")
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
            """The journal is the log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _first(rows: list[dict[str, Any]], **wanted: Any) -> dict[str, Any] | None:
    """Tokens of clusters are compared without case, as the Manager does."""
    for row in rows:
        if all(str(row[key]).lower() == str(value).lower() for key, value in wanted.items()):
            return row
    return None


def _found(row: Any) -> Answer:
    return (404, NO_BODY) if row is None else (200, row)
