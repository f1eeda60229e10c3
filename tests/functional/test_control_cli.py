"""The commands of control and of the directory, as processes on a database of their own."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.command_line import Site

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.clean_up()


def test_the_directory_is_looked_after_from_the_command_line(site: Site) -> None:
    broker = site.json("brokers", "add", "main", "--host", "rabbit.example.org", "--port", "5671")["key"]
    exchange = site.json("exchanges", "add", "aws")["key"]
    site.json("clusters", "add", "tok", "--exchange", exchange, "--builds")
    site.json("modules", "add", "build-1", "--exchange", exchange, "--type", "builder")
    assert [row["name"] for row in site.json("brokers", "list")] == ["main"]
    assert [row["hostname"] for row in site.json("modules", "list")] == ["build-1"]
    assert [row["allow_docker_builds"] for row in site.json("clusters", "list")] == [True]
    site.json("brokers", "remove", broker)
    gone = site.run("brokers", "remove", broker)
    assert gone.returncode == 2
    assert gone.stderr == "openaperture: there is no broker '1'; list them to see those that are\n"


def test_a_verb_that_does_not_fit_is_one_sentence_and_exit_code_2(site: Site) -> None:
    workflow = site.json("submit", "https://git.example.org/shop", "--milestones", "build+config,deploy")
    assert workflow["plan"] == [["build", "config"], ["deploy"]]
    refused = site.run("retry", workflow["id"][:8])
    assert refused.returncode == 2
    assert refused.stderr.startswith(
        f"openaperture: workflow {workflow['id']} is running, and has to end before it is repeated"
    )
    assert len(refused.stderr.splitlines()) == 1
    assert site.json("cancel", workflow["id"], "--force")["state"] == "cancelled"
    again = site.run("again", workflow["id"])
    assert json.loads(site.run("show", again.stdout.strip(), "--json").stdout)["parent_id"] == workflow["id"]


def test_an_unknown_milestone_is_refused_with_a_word_on_how_it_is_written(site: Site) -> None:
    refused = site.run("submit", "https://git.example.org/shop", "--milestones", "biuld")
    assert refused.returncode == 2
    assert 'did you mean "build"?' in refused.stderr


def test_the_history_is_printed_as_lines_and_as_json(site: Site) -> None:
    workflow = site.json("submit", "https://git.example.org/shop", "--lock", "environment:prod")
    kinds = [event["kind"] for event in site.json("events", workflow["id"])]
    assert kinds[:3] == ["workflow.created", "workflow.started", "lock.asked"]
    assert "asks for the lock" in site.run("events", workflow["id"]).stdout
    [lock] = site.json("locks", "list")
    assert lock["name"] == "environment:prod"
    assert site.json("logs", workflow["id"]) == []


NOBODY = 'note: nothing runs here that drives it; "openaperture up" does\n'


def test_where_nothing_runs_every_look_at_what_is_under_way_says_so(site: Site) -> None:
    workflow_id = site.json("submit", "https://git.example.org/shop")["id"]
    for command in (("show", workflow_id), ("explain", workflow_id), ("list",), ("pause", workflow_id)):
        for options in ((), ("--json",)):
            done = site.run(*command, *options)
            assert (done.returncode, done.stderr) == (0, NOBODY), command
    assert site.run("cancel", workflow_id, "--force").stderr == ""
    assert site.run("list").stderr == ""


def test_a_pause_that_is_to_come_is_seen_in_every_answer(site: Site) -> None:
    workflow_id = site.json("submit", "https://git.example.org/shop")["id"]
    words = "pauses before the next milestone (asked by local: lunch)"
    assert words in site.run("pause", workflow_id, "--reason", "lunch").stdout
    assert words in site.run("show", workflow_id).stdout
    explained = site.run("explain", workflow_id).stdout.splitlines()
    assert explained[0].endswith(words)
    assert any(
        line.startswith("pauses before the next milestone: by local, reason lunch, at ") for line in explained
    )
    assert "{" not in "".join(explained)


def test_nothing_is_shown_as_approved_that_waits_for_nobody(site: Site) -> None:
    workflow_id = site.json("submit", "https://git.example.org/shop", "--milestones", "approval")["id"]
    approved = site.run("approve", workflow_id)
    assert (approved.returncode, "approval waits for one person" in approved.stderr) == (0, True)
    for verb in ("approve", "reject"):
        refused = site.run(verb, workflow_id)
        assert refused.returncode == 2
        assert [line[:12] for line in refused.stderr.splitlines()] == ["openaperture"]


def test_the_history_says_once_what_is_waited_for(site: Site) -> None:
    workflow_id = site.json("submit", "https://git.example.org/shop", "--milestones", "approval")["id"]
    kinds = [event["kind"] for event in site.json("events", workflow_id)]
    assert kinds[-2:] == ["approval.asked", "workflow.waiting"]
    assert site.run("events", workflow_id).stdout.count("waits for one person") == 1
    shown = site.run("show", workflow_id).stdout
    assert shown[shown.index("created with") :].count("waits for one person") == 1


def test_a_list_that_is_cut_says_so(site: Site) -> None:
    for _ in range(3):
        site.json("cancel", site.json("submit", "https://git.example.org/shop")["id"])
    cut = site.run("list", "--limit", "2")
    assert cut.stderr == "these are the newest 2, and there are more: --limit shows more of them\n"
    assert site.run("list", "--limit", "3").stderr == ""
