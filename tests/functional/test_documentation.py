"""The examples of the documents work: files, settings and commands, in the order in which a reader meets them."""

import json
import re
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psycopg
import pytest
import typer.main
from psycopg import sql

from openaperture.cli.commands import app
from tests.functional.command_line import Site, make_repository
from tests.functional.documented import Example, Reader, alike, assert_shows, examples_of
from tests.servers import PostgresServer, RabbitServer

PROJECT = Path(__file__).parents[2]
README = PROJECT / "README.md"
TUTORIAL = PROJECT / "docs" / "tutorial.md"
RELEASING = PROJECT / "docs" / "how-to" / "release-a-repository.md"
CONTROL = PROJECT / "docs" / "how-to" / "control-a-release.md"
DISTRIBUTED = PROJECT / "docs" / "how-to" / "distributed.md"
ACCESS = PROJECT / "docs" / "how-to" / "access.md"
PAGES = [README, TUTORIAL, RELEASING, CONTROL, DISTRIBUTED, ACCESS]

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.clean_up()


@pytest.fixture
def servers(rabbit_server: RabbitServer, postgres_server: PostgresServer) -> dict[str, str]:
    """What stands for the servers that the pages name; the queues have names that the pages cannot choose."""
    name = f"documents_{time.monotonic_ns()}"
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    return {
        "amqps://openaperture:SECRET@rabbit.example.org/releases": rabbit_server.url,
        "postgresql://openaperture:SECRET@db.example.org/openaperture": (
            postgres_server.url.rsplit("/", 1)[0] + f"/{name}"
        ),
    }


def make_shop(folder: Path) -> Path:
    shop = make_repository(folder, None)
    (shop / "index.html").write_text("<h1>Shop</h1>\n")
    return shop


@pytest.fixture
def shop_url(site: Site) -> Iterator[str]:
    """A web server of the test's folder."""
    serve_folder = partial(SimpleHTTPRequestHandler, directory=str(site.folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve_folder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


# ------------------------------------------------------------------------------------------- pages


def test_the_tutorial_can_be_followed_from_beginning_to_end(site: Site) -> None:
    # A worker that was killed is missed within seconds here, not within a minute.
    site.variables["OPENAPERTURE_MILESTONES__DEPLOY__HEARTBEAT_SECONDS"] = "2"
    Reader(site, {"sleep 20": "sleep 12"}).follow(examples_of(TUTORIAL))
    assert (site.folder / "www" / "index.html").read_text() == "<h1>Shop</h1>\n"


def test_a_repository_is_released_as_its_how_to_says(site: Site) -> None:
    shop = make_shop(site.folder / "shop")
    reader = Reader(site, {"git -C shop add openaperture.json": "git -C shop add ."})
    reader.follow(examples_of(RELEASING))
    assert (site.folder / "www" / "current" / "index.html").read_text() == (shop / "index.html").read_text()


def test_access_is_given_and_taken_back_as_its_how_to_says(site: Site) -> None:
    Reader(site, {}).follow(examples_of(ACCESS))
    site.variables["OPENAPERTURE_DATA_DIR"] = str(site.folder / ".openaperture")
    assert [client["disabled_at"] is None for client in site.json("clients", "list")] == [False, True, True]
    assert [token["revoked_at"] is None for token in site.json("tokens", "list", "--all")] == [False, True]


def test_a_release_is_controlled_as_its_how_to_says(site: Site) -> None:
    reader = Reader(site)
    reader.follow([*examples_of(CONTROL), Example(kind="run", argument="", text="openaperture list --json")])
    states = [release["state"] for release in json.loads(reader.last_output)]
    assert states == ["cancelled", "completed", "completed", "failed"]


def test_several_hosts_are_set_up_as_their_how_to_says(site: Site, servers: dict[str, str]) -> None:
    git = site.folder / "git"
    git.mkdir()
    manifest = {"milestones": {"build": {"run": ["echo built"]}, "deploy": {"run": ["echo done"]}}}
    make_repository(git / "shop", manifest)
    folders = {"/srv/git": str(git), "/mnt/openaperture/artifacts": str(site.folder / "artifacts")}
    reader = Reader(site, {**servers, **folders})
    reader.follow(examples_of(DISTRIBUTED))
    assert len(reader.services) == 4


def test_the_readme_releases_grows_and_serves_a_milestone_of_its_own(
    site: Site, servers: dict[str, str], shop_url: str
) -> None:
    make_shop(site.folder / "shop")
    first_waiting = "$(openaperture list --state waiting | awk 'NR == 2 {print $1}')"
    stand_ins = {
        "git -C shop add openaperture.json": "git -C shop add .",
        "https://shop.example.org/": shop_url,
        "openaperture approve ID": f"openaperture approve {first_waiting}",
    }
    reader = Reader(site, {**servers, **stand_ins})
    reader.follow(examples_of(README))
    [approved] = reader.services
    assert approved.wait() == 0
    assert any("deploy completed" in line for line in approved.lines)
    kept = (site.folder / ".openaperture").glob("work/**/index.html")
    assert [page.read_text() for page in kept] == ["<h1>Shop</h1>\n"]

    broker = servers["amqps://openaperture:SECRET@rabbit.example.org/releases"]
    site.variables |= {
        "OPENAPERTURE_BROKER": broker,
        "OPENAPERTURE_WORKER__LOCAL_REPOSITORIES": str(site.folder),
    }
    run = "openaperture run shop --milestones build,smoke"
    assert "openaperture run REPO --milestones build,smoke" in README.read_text(encoding="utf-8")
    reader.follow(
        [
            Example(kind="service", argument="until broker.connected", text="openaperture orchestrator"),
            Example(kind="service", argument="until worker.ready", text="openaperture worker"),
            Example(kind="service", argument="until worker.ready", text="python smoke.py"),
            Example(kind="run", argument="", text=run),
        ]
    )
    assert "    status = 200" in reader.last_output.splitlines()


# ---------------------------------------------------------------------------------------- all pages


def documented_commands() -> set[tuple[str, str]]:
    """(page, command) of everything in the documents that looks like a call of the program."""
    pages = [*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")]
    return {
        (str(page.relative_to(PROJECT)), command)
        for page in pages
        for command in re.findall(
            r"""(?:^|[`"(\s])openaperture (?:--config \S+ )?([a-z]+(?: (?=show|check)[a-z]+)?)""",
            "\n".join(re.findall(r"```.*?```|`[^`\n]+`", page.read_text(encoding="utf-8"), re.DOTALL)),
        )
    }


def test_every_command_that_the_documents_name_exists() -> None:
    program = typer.main.get_command(app)
    known = set(getattr(program, "commands", {})) | {"config show", "config check"}
    named = documented_commands()
    assert len({command for _, command in named}) >= 10
    assert sorted((page, command) for page, command in named if command not in known) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_example_is_marked_with_a_block(page: Path) -> None:
    marks = page.read_text(encoding="utf-8").count("<!-- example:")
    assert len(examples_of(page)) == marks > 0


# ------------------------------------------------------------------------- how output is compared


def test_shown_output_may_differ_in_figures_but_not_in_words() -> None:
    assert alike("19:04:01 build taken by worker host.dffeed95f103") == "TIME build taken by worker WORKER"
    assert_shows("one\n12:00:01 done after 3 second(s)\n", "one\n01:02:03 done after 10 second(s)\n")
    with pytest.raises(AssertionError, match="does not come"):
        assert_shows("one\n12:00:01 failed after 3 second(s)\n", "one\n01:02:03 done after 10 second(s)\n")


def test_shown_output_leaves_lines_out_only_where_it_says_so() -> None:
    assert_shows("one\ntwo\nthree\n", "one\n…\nthree\n")
    assert_shows("one\ntwo\nthree\n", "…\ntwo\n…\n")
    with pytest.raises(AssertionError, match="comes also"):
        assert_shows("one\ntwo\nthree\n", "one\nthree\n")
    with pytest.raises(AssertionError, match="comes also"):
        assert_shows("one\ntwo\nthree\n", "one\ntwo\n")
