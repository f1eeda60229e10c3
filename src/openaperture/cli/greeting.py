"""What `up` and `manager` say to whoever started it, and to nobody else."""

import sys
from urllib.parse import urlsplit

from openaperture.cli.speech import answer
from openaperture.config.values import is_loopback


def greet(url: str, token: str) -> None:
    """The address with a token that opens everything: on a terminal only, for what is no terminal is kept.

    Beyond this machine the token would travel in the clear, so it is left out.
    """
    if sys.stdout.isatty():
        is_local = is_loopback(urlsplit(url).hostname)
        answer(f"the Manager is at {url}/?token={token}" if is_local else f"the Manager is at {url}")
