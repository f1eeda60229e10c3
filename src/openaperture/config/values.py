"""What one setting may hold: each type turns a TOML value or the text of a variable into one Python value.

Every refusal is the second half of a sentence whose first half names the key ("…: write a whole number").
"""

import ipaddress
import json
import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, cast
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr

from openaperture.domain.errors import ConfigError
from openaperture.domain.milestones import FailureKind

EMBEDDED = "embedded"
MASK = "********"
MILESTONE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")

_UNIT_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|[smhd]?)")
_LONGEST_SECONDS = 10 * 365 * 86_400.0  # an instant further away is a mistake, and too far is no date at all
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_QUEUE_NAME_BYTES = 200  # AMQP allows 255, and the names of dead-letter queues are longer by a suffix
_FLAGS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


class SecretUrl(str):
    """A url that may hold a password. It is the full url for those who connect, and masked in `repr`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(self.masked())

    def masked(self) -> str:
        """The url without its password and without its options, which may hold another."""
        parts = urlsplit(self)
        if not parts.scheme:
            return parts.path
        login, at, host = parts.netloc.rpartition("@")
        user, colon, _ = login.partition(":")
        # An "@" in the path is what a password with an unquoted "/" leaves there.
        path = MASK if "@" in parts.path else parts.path
        slashes = "//" if "://" in self else ""
        query = f"?{MASK}" if parts.query else ""
        return f"{parts.scheme}:{slashes}{user}{colon and f':{MASK}'}{at}{host}{path}{query}"


def is_loopback(host: str | None) -> bool:
    """Whether traffic to this host stays on this machine. No host means localhost."""
    if host is None or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _seconds(value: object) -> float:
    form = 'write seconds as a number above 0, or a text such as "90s", "10m" or "2h"'
    if isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
        value = float(match[1]) * _UNIT_SECONDS[match[2]]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _LONGEST_SECONDS:
        raise ValueError(form)
    return float(value)


def _whole(low: int, high: int) -> BeforeValidator:
    def check(value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value.strip()):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"write a whole number from {low} to {high}")
        return value

    return BeforeValidator(check)


def _flag(value: object) -> bool:
    if isinstance(value, str) and value.strip().lower() in _FLAGS:
        return _FLAGS[value.strip().lower()]
    if not isinstance(value, bool):
        raise ValueError("write true or false")  # noqa: TRY004  pydantic collects ValueError alone
    return value


def _text(value: object) -> str:
    # A number is taken as its digits: `exchange_id = 1` means the same as "1".
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not text.strip() or not text.isprintable():
        raise ValueError("write a text of one line that is not empty")
    return text.strip()


def _path(value: object) -> Path:
    path = Path(value) if isinstance(value, Path) else Path(_text(value))
    try:
        return Path.cwd() / path.expanduser()
    except RuntimeError as error:
        raise ValueError("write a path; the home folder of this user is not known") from error


def _queue(value: object) -> str:
    name = _text(value)
    if len(name.encode()) > _QUEUE_NAME_BYTES or name.startswith("amq."):
        raise ValueError(f'write a name of at most {_QUEUE_NAME_BYTES} bytes that does not begin with "amq."')
    return name


def _list(value: object) -> list[object]:
    """A TOML array, or from a variable: a JSON array, or names with commas between them."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.lstrip().startswith("[") else value.split(",")
        except ValueError as error:
            raise ValueError('write a list such as ["one", "two"], or one,two in a variable') from error
    if not isinstance(value, list):
        raise ValueError('write a list such as ["one", "two"]')  # noqa: TRY004  pydantic collects ValueError alone
    return cast("list[object]", value)


def _queues(value: object) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_queue(name) for name in _list(value)))


def _names(value: object) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_text(name) for name in _list(value)))


def _folders(value: object) -> tuple[str, ...]:
    folders = tuple(_text(folder) for folder in _list(value))
    if any(not Path(folder).is_absolute() for folder in folders):
        raise ValueError('write absolute paths of folders, such as ["/srv/git"]')
    return folders


def _networks(value: object) -> tuple[str, ...]:
    try:
        return tuple(str(ip_network(_text(network))) for network in _list(value))
    except ValueError as error:
        raise ValueError('write networks such as ["10.0.0.0/8", "fd00::/8"]') from error


def _environment(value: object) -> dict[str, str]:
    form = "write a table of variables and their texts; a name has letters, digits and underscores"
    if not isinstance(value, dict):
        raise ValueError(form)  # noqa: TRY004  pydantic collects ValueError alone
    table = cast("dict[str, object]", value)
    for name, text in table.items():
        if not _VARIABLE_NAME.fullmatch(name) or not isinstance(text, str) or "\0" in text:
            raise ValueError(form)
    return cast("dict[str, str]", table)


def split_url(url: str) -> SplitResult:
    """The parts of a url, its port checked. Raises ValueError without the url, which may hold a password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError(
            "the url cannot be read; write its port as a number, and %2F, %40 or %23 for / @ # in a password"
        ) from None
    return parts


def _broker(value: object) -> str:
    url = _text(value)
    if url == EMBEDDED:
        return url
    parts = split_url(url)
    if parts.scheme not in {"amqp", "amqps"} or not url.startswith(f"{parts.scheme}://"):
        raise ValueError(f'write "{EMBEDDED}", or a url such as "amqps://user:password@host/vhost"')
    return url


def _database(value: object) -> str:
    # Imported only here: it brings in all of SQLAlchemy, which a command without a database does not need.
    from openaperture.database.url import parse  # noqa: PLC0415

    url = _text(value)
    try:
        parse(url)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return url


def _http_url(value: object) -> str:
    url = _text(value)
    parts = split_url(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError('write a url such as "https://host"')
    return url.rstrip("/")


def _failure_kinds(value: object) -> frozenset[FailureKind]:
    names = [_text(name) for name in _list(value)] if value not in ("", []) else []
    if unknown := [name for name in names if name not in set(FailureKind)]:
        raise ValueError(f'"{unknown[0]}" is no kind of failure; write some of {", ".join(FailureKind)}')
    return frozenset(FailureKind(name) for name in names)


def _notices(value: object) -> object:
    if value not in ("off", "terms", "json"):
        raise ValueError('write "off", "terms" for a Notifications module of the original, or "json"')
    return value


Notices = Annotated[Literal["off", "terms", "json"], BeforeValidator(_notices)]
Seconds = Annotated[float, BeforeValidator(_seconds)]
Secret = Annotated[SecretStr, BeforeValidator(_text)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Text = Annotated[str, BeforeValidator(_text)]
Folder = Annotated[Path, BeforeValidator(_path)]
Queue = Annotated[str, BeforeValidator(_queue)]
Queues = Annotated[tuple[str, ...], BeforeValidator(_queues)]
Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
Folders = Annotated[tuple[str, ...], BeforeValidator(_folders)]
Networks = Annotated[tuple[str, ...], BeforeValidator(_networks)]
Environment = Annotated[dict[str, str], BeforeValidator(_environment)]
BrokerUrl = Annotated[str, BeforeValidator(_broker), AfterValidator(SecretUrl)]
DatabaseUrl = Annotated[str, BeforeValidator(_database), AfterValidator(SecretUrl)]
HttpUrl = Annotated[str, BeforeValidator(_http_url), AfterValidator(SecretUrl)]
FailureKinds = Annotated[frozenset[FailureKind], BeforeValidator(_failure_kinds)]
Approvers = Annotated[int, _whole(1, 20)]
Attempts = Annotated[int, _whole(1, 100)]
Slots = Annotated[int, _whole(1, 256)]
BatchSize = Annotated[int, _whole(10, 5000)]
OutboxLimit = Annotated[int, _whole(1, 10_000_000)]
Port = Annotated[int, _whole(0, 65_535)]
