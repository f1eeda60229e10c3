"""The environment of commands: an allow-list of what the worker itself has, and what a milestone is given.

Broker, database and Manager credentials of the worker never pass: only the names below do.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from openaperture.domain.errors import MilestoneFailed

_PASSED = frozenset({"PATH", "LANG", "LC_ALL", "TZ"})
_NETWORK = frozenset(
    {
        "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO",
        "NODE_EXTRA_CA_CERTS",
        "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    }
)  # fmt: skip
"""A machine behind a proxy reaches nothing without them. Credentials in them are shown to the commands."""
_PIP = "PIP_"
_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|PRIVATE_?KEY", re.IGNORECASE)
_MIN_SECRET_CHARS = 6
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"


def passed_to_commands(environ: Mapping[str, str]) -> dict[str, str]:
    """What commands get of the worker's environment. pip finds the settings and the cache of the worker's user."""
    names = _PASSED | _NETWORK
    passed = {name: value for name, value in environ.items() if name in names or name.startswith(_PIP)}
    passed.setdefault("PATH", _DEFAULT_PATH)
    if home := environ.get("HOME"):
        cache = environ.get("XDG_CACHE_HOME") or f"{home}/.cache"
        passed.setdefault("PIP_CACHE_DIR", f"{cache}/pip")
        config = environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
        for place in (Path(config, "pip", "pip.conf"), Path(home, ".pip", "pip.conf")):
            if place.is_file():
                passed.setdefault("PIP_CONFIG_FILE", str(place))
    return passed


def passed_to_git(environ: Mapping[str, str]) -> dict[str, str]:
    """What git gets: the network, and the ssh agent of the worker's user, which commands never see."""
    names = {"PATH", "SSH_AUTH_SOCK"} | _NETWORK
    passed = {name: value for name, value in environ.items() if name in names}
    passed.setdefault("PATH", _DEFAULT_PATH)
    return passed


def variables_of_inputs(inputs: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """OPENAPERTURE_INPUT_<MILESTONE>_<OUTPUT> -> text. Raises MilestoneFailed when two would share a name."""
    variables: dict[str, str] = {}
    for milestone, outputs in inputs.items():
        for output, text in outputs.items():
            name = f"OPENAPERTURE_INPUT_{_upper(milestone)}_{_upper(output)}"
            if name in variables:
                raise MilestoneFailed(
                    f"two outputs of earlier milestones are both called {name} in the environment; rename "
                    f'"{output}" of "{milestone}"'
                )
            variables[name] = text
    return variables


def variables_of_locks(locks: Mapping[str, int]) -> dict[str, str]:
    """OPENAPERTURE_LOCK_<NAME> -> token."""
    return {f"OPENAPERTURE_LOCK_{_upper(name)}": str(token) for name, token in locks.items()}


class Masking:
    """Replaces secret values of the worker's settings in lines of output."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """A variable is secret when its name says so; a short value would mask ordinary words."""
        secrets = {
            line
            for name, value in environment.items()
            if _SECRET_NAME.search(name)
            for line in value.splitlines()
            if len(line) >= _MIN_SECRET_CHARS
        }
        # The longest first: one secret may begin with another.
        ordered = sorted(secrets, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __call__(self, line: str) -> str:
        return self._pattern.sub("***", line) if self._pattern else line


def _upper(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "_", name.upper())
