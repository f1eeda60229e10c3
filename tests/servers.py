"""Private RabbitMQ and PostgreSQL servers for the tests: on loopback, in folders of their own, killable.

`python -m tests.servers start|stop|status|remove` looks after the pair that all tests share; fault tests
make more of them. Knows Debian's packages, installs them when it may, and needs only the standard library.
"""

import fcntl
import json
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

from tests.processes import descendants, is_alive, send_signal, wait_gone

PROJECT = Path(__file__).resolve().parent.parent
LOOPBACK = "127.0.0.1"
POLL_SECONDS = 0.05
GONE_SECONDS = 30.0
OPEN_FILES = 4096
"""Where the limit is "unlimited", Erlang spends seconds on closing files that are not open."""
PRIVATE_PORTS = range(20_000, 25_000)
"""Below the ports that the kernel gives to outgoing connections, so that a killed server finds its own free."""


class ServerMissing(Exception):
    """The server is not installed and we may not install it."""


class ServerFailed(Exception):
    """The server did not come up, or did not go."""


class Server(ABC):
    """A server process with its own folder and port. Its pid and port outlive the Python that started it."""

    name: ClassVar[str]
    packages: ClassVar[Sequence[str]]
    account: ClassVar[str]
    """The unprivileged user that runs it when we are root: neither server likes to run as root."""
    ready_seconds: ClassVar[float]

    def __init__(self, folder: Path, port: int | None = None) -> None:
        """`folder` is created when needed. The port is kept from start to start unless somebody takes it."""
        self.folder = folder
        self._first_port = port or random.choice(PRIVATE_PORTS)
        self._child: subprocess.Popen[bytes] | None = None
        self._record = folder / "server.json"
        self._output = folder / "output.log"

    @property
    @abstractmethod
    def url(self) -> str: ...

    @abstractmethod
    def _find_program(self) -> Path | None: ...

    @abstractmethod
    def _version(self) -> str:
        """Of the installed program. Another version does not get to see this one's data."""

    @abstractmethod
    def _prepare(self) -> None:
        """Write the configuration and, the first time, the data."""

    @abstractmethod
    def _command(self) -> tuple[Sequence[str], Mapping[str, str]]:
        """Arguments and extra environment. Must `exec`: the pid that we start is the server's."""

    @abstractmethod
    def _answers(self) -> bool: ...

    @property
    def stop_signal(self) -> signal.Signals:
        return signal.SIGTERM

    @property
    def port(self) -> int:
        return int(self._recorded()["port"])

    @property
    def pid(self) -> int | None:
        """Of the running server, by whomever it was started; None when it does not run."""
        pid = self._recorded().get("pid")
        # A pid may be somebody else's by now; the folder is in the arguments of both servers.
        return int(pid) if pid and is_alive(int(pid), mention=str(self.folder)) else None

    def start(self) -> None:
        """Start it unless it runs, and wait until it answers. Raises ServerMissing, ServerFailed."""
        self.install()
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            if self.pid is None:
                self._forget_other_version()
                self._save(port=self._choose_port(), version=self._version(), pid=None)
                self._own()
                self._prepare()
                self._save(pid=self._spawn())
            try:
                self.wait_ready()
            except ServerFailed:
                self.kill()
                raise

    def wait_ready(self, timeout_seconds: float | None = None) -> None:
        """Wait until it answers its protocol. Raises ServerFailed with the end of its output."""
        deadline = time.monotonic() + (timeout_seconds or self.ready_seconds)
        while not self._answers():
            if self.pid is None:
                raise ServerFailed(f"{self.name} ended while starting:\n{self._last_output()}")
            if time.monotonic() > deadline:
                raise ServerFailed(f"{self.name} does not answer on port {self.port}:\n{self._last_output()}")
            time.sleep(POLL_SECONDS)

    def kill(self) -> None:
        """End it and its children by SIGKILL, as a machine that fails; return when they are gone."""
        if (pid := self.pid) is None:
            return
        send_signal(pid, signal.SIGSTOP)  # so that it has no more children while we look for them
        family = [pid, *descendants(pid)]
        for member in family:
            send_signal(member, signal.SIGKILL)
        self._wait_gone(family)

    def pause(self) -> None:
        """Stop it and its children where they stand, as a machine that is frozen, until `resume`."""
        self._signal_family(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_family(signal.SIGCONT)

    def _signal_family(self, number: signal.Signals) -> None:
        if (pid := self.pid) is None:
            return
        send_signal(pid, number)  # the parent first: while it stands it has no more children
        for member in descendants(pid):
            send_signal(member, number)

    def stop(self) -> None:
        """End it in order; after GONE_SECONDS, by force."""
        if (pid := self.pid) is None:
            return
        family = [pid, *descendants(pid)]
        send_signal(pid, self.stop_signal)
        try:
            self._wait_gone(family)
        except TimeoutError:
            self.kill()

    def remove(self) -> None:
        """Kill it and delete its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _wait_gone(self, pids: Sequence[int]) -> None:
        wait_gone(pids, GONE_SECONDS)
        if self._child is not None:
            self._child.wait()
            self._child = None

    def install(self) -> None:
        """Install the packages unless they are there. Raises ServerMissing."""
        if self._find_program():
            return
        done = subprocess.run(
            [PROJECT / "scripts" / "apt-install", *self.packages],
            check=False,
            stdout=sys.stderr,
            stderr=subprocess.PIPE,
            text=True,
        )
        if done.returncode or not self._find_program():
            raise ServerMissing(f"{self.name}: {done.stderr.strip()[-2000:]}")

    def _program(self) -> Path:
        program = self._find_program()
        if program is None:
            raise ServerMissing(f"{self.name} is not installed")
        return program

    def _run_as_account(self, *command: str) -> str:
        done = subprocess.run(
            command,
            check=False,
            cwd=self.folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            **_identity(self.account),
        )
        if done.returncode:
            raise ServerFailed(f"{command[0]} failed: {done.stderr}")
        return str(done.stdout)

    def _spawn(self) -> int:
        arguments, extra = self._command()
        limited = ["/bin/sh", "-c", f'ulimit -n {OPEN_FILES} 2>/dev/null; exec "$@"', str(self.folder), *arguments]
        with self._output.open("wb") as output:
            self._child = subprocess.Popen(
                limited,
                cwd=self.folder,
                env={**self._environment(), **extra},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a Ctrl-C in the terminal is for the tests
                **_identity(self.account),
            )
        return self._child.pid

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.folder), "LANG": "C.UTF-8"}

    def _own(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self.folder, self.account, pwd.getpwnam(self.account).pw_gid)

    def _choose_port(self) -> int:
        return free_port(int(self._recorded().get("port", self._first_port)))

    def _forget_other_version(self) -> None:
        if self._recorded().get("version", self._version()) != self._version():
            for path in self.folder.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)

    def _recorded(self) -> dict[str, str | int]:
        try:
            return dict(json.loads(self._record.read_text()))
        except FileNotFoundError:
            return {}

    def _save(self, **changed: str | int | None) -> None:
        draft = self._record.with_suffix(".new")
        draft.write_text(json.dumps(self._recorded() | changed))
        draft.replace(self._record)

    def _last_output(self) -> str:
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"--- {log}\n{log.read_text(errors='replace')[-3000:]}" for log in logs)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time starts it; the others then find it running."""
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class RabbitServer(Server):
    """A RabbitMQ node without plugins. User guest, virtual host `/`."""

    name = "rabbitmq"
    packages = ("rabbitmq-server",)
    account = "rabbitmq"
    ready_seconds = 60.0

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{LOOPBACK}:{self.port}/%2F"

    @property
    def node(self) -> str:
        """Erlang node name. All nodes of a machine share one epmd, so the folder makes it unique."""
        return f"oa-{sha256(str(self.folder).encode()).hexdigest()[:12]}@localhost"

    def control(self, *arguments: str) -> str:
        """Run rabbitmqctl on the node; what it prints."""
        program = self._program().with_name("rabbitmqctl")
        return self._run_as_account(str(program), "--silent", "--node", self.node, *arguments)

    def wipe(self) -> None:
        """Kill it and lose all that it has on disk: queues and messages. The next start makes a new node."""
        self.kill()
        shutil.rmtree(self.folder / "data")

    def _find_program(self) -> Path | None:
        # Not /usr/sbin/rabbitmq-server: that one is a wrapper that changes the user by su, in a child.
        program = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
        return program if program.exists() else None

    def _version(self) -> str:
        return self._program().resolve().parent.parent.name

    def _prepare(self) -> None:
        (self.folder / "enabled_plugins").write_text("[].\n")
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = {LOOPBACK}:{self.port}\n"
            "num_acceptors.tcp = 2\n"
            "log.file.level = warning\n"
            "disk_free_limit.absolute = 20MB\n"
        )

    def _command(self) -> tuple[Sequence[str], Mapping[str, str]]:
        environment = {
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "RABBITMQ_ALLOW_INPUT": "true",  # without it, a shell stays between us and the server
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "none.conf"),  # not the one in /etc
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "none.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port(random.choice(PRIVATE_PORTS))),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder),
            "RABBITMQ_LOGS": str(self.folder / "rabbitmq.log"),
            "RABBITMQ_SCHEDULER_BIND_TYPE": "u",  # several nodes would bind to the same first cores
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        # Erlang ignores flags that it does not know; this one makes the process ours, see `pid`.
        return (str(self._program()), "-noinput", "-folder", str(self.folder)), environment

    def _answers(self) -> bool:
        """Whether it greets: the port opens last, when users and queues are loaded (AMQP 0-9-1, 2.2.4)."""
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=2.0) as connection:
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return connection.recv(1) == b"\x01"
        except OSError:
            return False


class PostgresServer(Server):
    """A PostgreSQL server with one superuser, `openaperture`, who may do what tests need."""

    name = "postgresql"
    packages = ("postgresql",)
    account = "postgres"
    ready_seconds = 30.0

    @property
    def url(self) -> str:
        return f"postgresql://openaperture:openaperture@{LOOPBACK}:{self.port}/postgres"

    @property
    def stop_signal(self) -> signal.Signals:
        return signal.SIGINT  # "fast": SIGTERM would wait for clients to leave

    def _find_program(self) -> Path | None:
        found = Path("/usr/lib/postgresql").glob("*/bin/postgres")
        return max(found, key=lambda program: int(program.parts[-3]), default=None)

    def _version(self) -> str:
        return self._program().parts[-3]

    def _prepare(self) -> None:
        data = self.folder / "data"
        if data.exists():
            return
        draft = self.folder / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        password = self.folder / "password"
        password.write_text("openaperture\n")
        initdb = self._program().with_name("initdb")
        options = ("--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "--username=openaperture", "--no-sync")
        self._run_as_account(str(initdb), *options, f"--pwfile={password}", str(draft))
        draft.rename(data)  # so that an interrupted initdb is not taken for a database

    def _command(self) -> tuple[Sequence[str], Mapping[str, str]]:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": self.port,
            "unix_socket_directories": "",
            "shared_buffers": "64MB",
            "max_connections": 200,
        }
        options = [text for key, value in settings.items() for text in ("-c", f"{key}={value}")]
        return (str(self._program()), "-D", str(self.folder / "data"), *options), {}

    def _answers(self) -> bool:
        ready = [str(self._program().with_name("pg_isready")), "-q", "-h", LOOPBACK, "-p", str(self.port)]
        return subprocess.run([*ready, "-t", "2"], check=False).returncode == 0


def _identity(account: str) -> dict[str, Any]:
    """Arguments for subprocess: become `account` when we are root."""
    if os.geteuid() != 0:
        return {}
    return {"user": account, "group": pwd.getpwnam(account).pw_gid, "extra_groups": []}


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port(first: int) -> int:
    """The first free port from `first` on."""
    return next(port for port in range(first, first + 1000) if is_free(port))


def services_folder() -> Path:
    """Where servers of this clone live: in it, or elsewhere when their users could not get at it.

    As root the servers run as other users, who may not enter, say, a clone below /root.
    """
    folder = PROJECT / ".services"
    if os.geteuid() != 0 or all(parent.stat().st_mode & 0o001 for parent in folder.parents):
        return folder
    return Path("/var/lib/openaperture-tests") / sha256(str(PROJECT).encode()).hexdigest()[:12]


def shared_servers() -> tuple[RabbitServer, PostgresServer]:
    """The pair that all tests of this clone share. Another clone has its own, on other ports."""
    folder = services_folder()
    return RabbitServer(folder / "rabbitmq", 25_771), PostgresServer(folder / "postgresql", 25_432)


def main(verb: str) -> int:
    """Start, stop or remove the shared pair, or say how it stands (exit code 1 when one does not run)."""
    servers = shared_servers()
    try:
        for server in servers:
            match verb:
                case "start":
                    server.start()
                case "stop":
                    server.stop()
                case "remove":
                    server.remove()
                case "status":
                    pass
                case _:
                    print("usage: python -m tests.servers start|stop|status|remove", file=sys.stderr)
                    return 2
            print(f"{server.name}: {f'{server.url} (pid {server.pid})' if server.pid else 'not running'}")
    except (ServerMissing, ServerFailed) as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0 if verb != "status" or all(server.pid for server in servers) else 1


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:])))
