"""Logging in at a Manager elsewhere: its token is kept for the commands that follow."""

import getpass
import os
import sys

from openaperture.cli.browser_login import browser_token
from openaperture.cli.exits import ExitCode
from openaperture.cli.speech import answer
from openaperture.cli.terminal import show_json
from openaperture.cli.untrusted import one_line
from openaperture.client import ManagerClient
from openaperture.client.kept_tokens import KeptTokens, default_file
from openaperture.domain.errors import BadInput

_MAX_TOKEN = 16_384


async def login(url: str, *, browser: bool, as_json: bool) -> ExitCode:
    """Try the token, then keep it. It is never an argument: those are seen by every user of a machine."""
    token = await browser_token(url) if browser else _asked_token(url)
    async with ManagerClient(url, token) as client:
        me = await client.access.get_me()
    KeptTokens(default_file(os.environ)).keep(url, token)
    if as_json:
        show_json(me)
    else:
        answer(f"logged in at {url} as {one_line(me.name)} ({me.role}); set manager.url to it to use it")
    return ExitCode.COMPLETED


def logout(url: str, *, as_json: bool) -> ExitCode:
    known = KeptTokens(default_file(os.environ)).forget(url)
    if as_json:
        show_json({"url": url, "forgotten": known})
    else:
        answer(f"the token for {url} is forgotten" if known else f"no token was kept for {url}")
    return ExitCode.COMPLETED


def _asked_token(url: str) -> str:
    given = getpass.getpass(f"token for {url}: ") if sys.stdin.isatty() else sys.stdin.readline(_MAX_TOKEN)
    if not (token := given.strip()):
        raise BadInput("no token was given; write it to standard input, or type it when you are asked")
    return token
