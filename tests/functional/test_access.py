"""Access as its users meet it: real processes, a real socket, a terminal."""

import json
import os
import pty
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.functional.command_line import TIMEOUT_SECONDS, Site
from tests.unit.manager.login_service import CLIENT_ID, CLIENT_SECRET, running_login_service


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path, {"XDG_CONFIG_HOME": str(tmp_path / "config")})
    yield site
    site.clean_up()


def started(site: Site, *arguments: str) -> str:
    """The address of an `up` that is ready."""
    line = site.start("up", *arguments).wait_for("manager.ready")
    found = re.search(r"http://[^\s\"']+", line)
    assert found is not None, line
    return found[0]


def given(site: Site, text: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A command with this on its standard input."""
    return subprocess.run(
        [sys.executable, "-m", "openaperture", *arguments],
        cwd=site.folder,
        env=site.environment(),
        input=text,
        capture_output=True,
        check=False,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )


# --------------------------------------------------------------------------------------- the terminal


def test_on_a_terminal_up_prints_an_address_that_opens_everything(site: Site) -> None:
    main, secondary = pty.openpty()
    command = [sys.executable, "-m", "openaperture", "up"]
    with (site.folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=site.folder, env=site.environment(), stdin=secondary, stdout=secondary, stderr=log
        )
    os.close(secondary)
    try:
        shown = b""
        while b"\n" not in shown:
            shown += os.read(main, 1_000)
        url, token = re.findall(r"(http://127\.0\.0\.1:\d+)/\?token=(\S+)", shown.decode())[0]
        me = httpx.get(f"{url}/me", headers={"authorization": f"Bearer {token}"}).json()
        assert (me["name"], me["role"]) == ("local", "admin")
    finally:
        process.terminate()
        process.wait(TIMEOUT_SECONDS)
        os.close(main)
    assert token not in (site.folder / "log").read_text()


def test_where_output_is_kept_the_token_is_not_printed(site: Site) -> None:
    url = started(site)
    session = json.loads((site.folder / "data" / "manager.json").read_text())
    assert (site.folder / "data" / "manager.json").stat().st_mode & 0o777 == 0o600
    assert httpx.get(f"{url}/me", headers={"authorization": f"Bearer {session['token']}"}).status_code == 200
    [up] = site.started
    up.stop()
    assert "manager.ready" in "".join(up.lines)
    assert session["token"] not in "".join(up.lines)


# ------------------------------------------------------------------------------------ other addresses


def test_up_shows_itself_to_others_only_when_somebody_could_log_in(site: Site) -> None:
    site.variables["OPENAPERTURE_MANAGER__HOST"] = "0.0.0.0"  # bound only once somebody is known, below
    refused = site.run("up")
    assert refused.returncode == 2
    assert "nobody there could log in" in refused.stderr
    assert '"openaperture clients add"' in refused.stderr

    added = site.run("clients", "add", "builder-1")
    assert added.returncode == 0, added.stderr
    site.run("clients", "disable", "builder-1")
    assert site.run("up").returncode == 2

    token = site.run("tokens", "create", "--name", "ada", "--role", "operator").stdout.strip()
    url = started(site)
    assert httpx.get(f"{url}/me", headers={"authorization": f"Bearer {token}"}).json()["name"] == "ada"


# ------------------------------------------------------------------------------------------ secrets


def test_no_secret_is_left_in_the_database_the_log_or_the_output(site: Site) -> None:
    """S13, with processes: what opens something is in the hands of its owner, and a hash elsewhere."""
    canary = "canary-of-the-login-service"
    oidc = {"ISSUER": "http://127.0.0.1:9", "CLIENT_ID": "us", "CLIENT_SECRET": canary, "VIEWERS": "everybody"}
    site.variables |= {f"OPENAPERTURE_MANAGER__OIDC__{name}": value for name, value in oidc.items()}
    secret = site.run("clients", "add", "builder-1").stdout.strip()
    url = started(site)
    personal = site.run("tokens", "create", "--name", "ada").stdout.strip()
    body = {"grant_type": "client_credentials", "client_id": "builder-1", "client_secret": secret}
    access = httpx.post(f"{url}/oauth/token", json=body).json()["access_token"]
    local = json.loads((site.folder / "data" / "manager.json").read_text())["token"]
    for text in (secret, personal, access, local, canary):
        headers = {"authorization": f"Bearer {text}"}
        httpx.get(f"{url}/workflows/{'x' * 40}", headers=headers)
        httpx.post(
            f"{url}/workflows", headers=headers, json={"source_repo": f"https://u:{text}@git.example.org/a"}
        )
        httpx.post(f"{url}/oauth/token", json={**body, "client_secret": f"{text}x"})
    assert httpx.get(f"{url}/login").status_code == 503
    [up] = site.started
    up.stop()
    kept = {path.name: path.read_bytes() for path in (site.folder / "data").rglob("*") if path.is_file()}
    assert "openaperture.db" in kept
    kept["output"] = "\n".join(up.lines).encode()
    canaries = [text[-32:].encode() for text in (secret, personal, access, local, canary)]
    assert [(name, text) for name, content in kept.items() for text in canaries if text in content] == []


# ----------------------------------------------------------------------------------------- commands


BROWSER = """
import sys
import httpx

with httpx.Client(follow_redirects=True) as browser:
    sys.exit(browser.get(sys.argv[1]).text != "Logged in. This page can be closed.")
"""


def test_a_terminal_logs_in_with_the_browser(site: Site) -> None:
    script = site.folder / "browser.py"
    script.write_text(BROWSER)
    with running_login_service() as service:
        of_provider = {
            "ISSUER": service.url,
            "CLIENT_ID": CLIENT_ID,
            "CLIENT_SECRET": CLIENT_SECRET,
            "OPERATORS": "developers",
        }
        site.variables |= {f"OPENAPERTURE_MANAGER__OIDC__{name}": value for name, value in of_provider.items()}
        site.variables["BROWSER"] = f"{sys.executable} {script} %s"
        url = started(site)
        done = site.run("login", url, "--browser")
        assert done.returncode == 0, done.stderr
        assert "as ada (operator)" in done.stdout
        site.variables["OPENAPERTURE_MANAGER__URL"] = url
        assert [token["label"] for token in site.json("tokens", "list")] == ["login of a terminal"]
    shown = site.run("config", "show")
    assert CLIENT_SECRET not in shown.stdout + shown.stderr
    assert service.url in shown.stdout


def test_tokens_are_made_listed_and_revoked(site: Site) -> None:
    made = site.run("tokens", "create", "--name", "ada", "--role", "viewer", "--label", "laptop", "--days", "7")
    token = made.stdout.strip()
    assert re.fullmatch(r"oap_[0-9a-f]{16}_\S{43}", token)
    assert "speaks for ada (viewer)" in made.stderr
    token_id = token.split("_")[1]
    [listed] = site.json("tokens", "list", "--all")
    assert (listed["id"], listed["label"]) == (token_id, "laptop")
    assert "laptop" in site.run("tokens", "list", "--all").stdout
    assert "no tokens" in site.run("tokens", "list").stdout

    url = started(site)
    headers = {"authorization": f"Bearer {token}"}
    assert httpx.get(f"{url}/workflows", headers=headers).status_code == 200
    assert site.run("tokens", "revoke", token_id).returncode == 0
    assert httpx.get(f"{url}/workflows", headers=headers).status_code == 401
    for name, said in (("other", "you have no token"), ("../clients", "can be no id")):
        unknown = site.run("tokens", "revoke", name)
        assert (unknown.returncode, said in unknown.stderr) == (2, True)


def test_a_client_of_the_command_line_logs_in_until_it_is_disabled(site: Site) -> None:
    secret = site.run("clients", "add", "builder-1", "--role", "worker", "--group", "ops").stdout.strip()
    [listed] = site.json("clients", "list")
    assert (listed["id"], listed["role"], listed["groups"]) == ("builder-1", "worker", ["ops"])
    url = started(site)
    body = {"grant_type": "client_credentials", "client_id": "builder-1", "client_secret": secret}
    answer = httpx.post(f"{url}/oauth/token", json=body).json()
    headers = {"authorization": f"Bearer access_token={answer['access_token']}"}
    assert httpx.get(f"{url}/me", headers=headers).json()["name"] == "client:builder-1"
    assert site.json("clients", "disable", "builder-1") == {"id": "builder-1", "disabled": True}
    assert httpx.get(f"{url}/me", headers=headers).status_code == 401
    assert httpx.post(f"{url}/oauth/token", json=body).status_code == 401


def test_commands_talk_to_a_manager_elsewhere_after_a_login(site: Site, tmp_path: Path) -> None:
    url = started(site)
    token = site.run("tokens", "create", "--name", "ada", "--role", "operator").stdout.strip()
    away = Site(tmp_path / "away", dict(site.variables))
    away.folder.mkdir()

    away.variables["OPENAPERTURE_MANAGER__URL"] = url
    without = away.run("list")
    assert (without.returncode, f'"openaperture login {url}"' in without.stderr) == (2, True)

    wrong = given(away, "oap_wrong\n", "login", url)
    assert (wrong.returncode, "refuses the access token" in wrong.stderr) == (2, True)
    assert given(away, "", "login", url).returncode == 2
    done = given(away, f"{token}\n", "login", url)
    assert done.returncode == 0, done.stderr
    assert "as ada (operator)" in done.stdout
    assert token not in done.stdout + done.stderr
    kept = tmp_path / "config" / "openaperture" / "tokens.json"
    assert kept.stat().st_mode & 0o777 == 0o600

    release_id = away.run("submit", "https://git.example.org/acme/shop", "--milestones", "build").stdout.strip()
    assert [listed["id"] for listed in away.json("list")] == [release_id]
    assert "workflow started by ada" in away.json("show", release_id)["event_log"]
    forbidden = away.run("clients", "add", "mine")
    assert (forbidden.returncode, "needs the role admin" in forbidden.stderr) == (2, True)

    assert away.run("logout", url).returncode == 0
    assert away.run("list").returncode == 2
    away.variables["OPENAPERTURE_MANAGER__TOKEN"] = token
    assert len(away.json("list")) == 1


def test_the_audit_is_listed_and_verified(site: Site) -> None:
    assert "nothing was changed" in site.run("audit", "list").stdout
    for name in ("a", "b", "c"):
        assert site.run("clients", "add", name).returncode == 0
    listed = site.json("audit", "list", "--limit", "2")
    assert [(record["seq"], record["who"], record["path"]) for record in listed] == [
        (3, "local", "/clients"),
        (2, "local", "/clients"),
    ]
    assert "id=c" in site.run("audit", "list").stdout
    sound = site.run("audit", "verify")
    assert sound.returncode == 0
    known = sound.stdout.split()[-1]
    assert site.run("audit", "verify", "--known", known).returncode == 0
    assert site.json("audit", "verify", "--known", known)["records"] == 3
    assert site.run("audit", "verify", "--known", "nonsense").returncode == 2
    forged = f"3:{'0' * 64}"
    broken = site.run("audit", "verify", "--known", forged)
    assert (broken.returncode, "noted elsewhere" in broken.stdout) == (1, True)


def test_a_record_that_somebody_changed_is_found(site: Site) -> None:
    for name in ("a", "b", "c"):
        site.run("clients", "add", name)
    with sqlite3.connect(site.folder / "data" / "openaperture.db") as connection:
        connection.execute("UPDATE audit SET who = 'somebody else' WHERE seq = 2")
    connection.close()
    done = site.run("audit", "verify")
    assert (done.returncode, "broken at record 2" in done.stdout) == (1, True)
