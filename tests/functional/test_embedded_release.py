"""`up` and the commands around it: a release goes on through kills, restarts, losses and people's words."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.command_line import Running, Site, make_repository


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    # A worker that was killed is missed within seconds here, not within a minute.
    for milestone in ("BUILD", "DEPLOY"):
        site.variables[f"OPENAPERTURE_MILESTONES__{milestone}__HEARTBEAT_SECONDS"] = "2"
    yield site
    (site.folder / "go").touch()
    site.clean_up()


def started_up(site: Site) -> Running:
    up = site.start("up")
    up.wait_for("worker.ready")
    return up


def make_product(site: Site, *, deploy_on_loss: str = "retry") -> Path:
    """A repository whose milestones note each of their runs, and whose build waits for a file `go`."""
    folder = site.folder
    waits = f'until [ -e "{folder}/go" ]; do sleep 0.05; done'
    return make_repository(
        folder / "product",
        {
            "milestones": {
                "build": {"run": [f'echo build >> "{folder}/ledger"; echo begun; {waits}; echo made > made']},
                "deploy": {
                    "run": [f'echo deploy >> "{folder}/ledger"; echo begun; {waits}'],
                    "on_loss": deploy_on_loss,
                },
            }
        },
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def submit(site: Site, *arguments: str) -> str:
    done = site.run("submit", "product", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.fault("F12")
def test_a_release_goes_on_when_up_was_killed_in_the_middle_of_a_milestone(site: Site) -> None:
    make_product(site)
    first = started_up(site)
    workflow_id = submit(site)
    watching = site.start("watch", workflow_id)
    watching.wait_for("build | begun")

    first.stop(signal.SIGKILL)
    assert '"openaperture up"' in watching.wait_for("no orchestrator runs")
    (site.folder / "go").touch()
    second = started_up(site)
    watching.wait_for("answers again")

    assert watching.wait() == 0, watching.lines
    shown = "\n".join(watching.lines)
    assert "build lost" in shown
    assert "deploy completed" in shown
    assert "\ncompleted after" in shown
    attempts = site.json("show", workflow_id)["attempts"]
    assert [(attempt["milestone"], attempt["outcome"]) for attempt in attempts] == [
        ("build", "lost"),
        ("build", "completed"),
        ("deploy", "completed"),
    ]
    assert second.stop() == 0


@pytest.mark.fault("F57")
def test_a_lost_deploy_is_held_until_a_person_says_what_became_of_it(site: Site) -> None:
    make_product(site, deploy_on_loss="hold")
    # At the same port after the restart, and with another token: the watching command has to notice that too.
    site.variables["OPENAPERTURE_MANAGER__PORT"] = str(free_port())
    first = started_up(site)
    workflow_id = submit(site, "--milestones", "deploy")
    watching = site.start("watch", workflow_id)
    watching.wait_for("deploy | begun")

    first.stop(signal.SIGKILL)
    started_up(site)

    assert watching.wait() == 4, watching.lines
    assert f"openaperture resolve {workflow_id} worked" in "\n".join(watching.lines)
    [held] = site.json("list", "--state", "held")
    assert held["id"] == workflow_id
    (site.folder / "go").touch()
    resolved = site.run("resolve", workflow_id[:8], "again", "--reason", "the target is untouched")
    assert resolved.returncode == 0, resolved.stderr
    followed = site.run("watch", workflow_id)
    assert followed.returncode == 0, followed.stdout
    assert "says of deploy: again (the target is untouched)" in followed.stdout
    assert (site.folder / "ledger").read_text().split() == ["deploy", "deploy"]


@pytest.mark.fault("F60")
def test_a_release_that_is_cancelled_stops_its_command_and_ends_with_exit_code_3(site: Site) -> None:
    make_product(site)
    started_up(site)
    workflow_id = submit(site)
    watching = site.start("watch", workflow_id)
    watching.wait_for("build | begun")

    cancelled = site.run("cancel", workflow_id, "--reason", "wrong branch")

    assert cancelled.returncode == 0, cancelled.stderr
    assert watching.wait() == 3, watching.lines
    assert "wrong branch" in "\n".join(watching.lines)
    again = site.run("cancel", workflow_id)
    assert again.returncode == 2
    assert "nothing can be done to it any more" in again.stderr


def test_what_was_submitted_while_nothing_ran_begins_when_up_starts(site: Site) -> None:
    make_product(site)
    (site.folder / "go").touch()
    submitted = site.run("submit", "product")
    assert '"openaperture up"' in submitted.stderr
    following = site.run("logs", submitted.stdout.strip(), "--follow")
    assert following.returncode == 5
    assert '"openaperture up"' in following.stderr

    started_up(site)

    assert site.run("watch", submitted.stdout.strip()).returncode == 0


def test_run_uses_the_up_that_runs_and_ctrl_c_leaves_the_release_to_it(site: Site) -> None:
    make_product(site)
    up = started_up(site)
    running = site.start("run", "product")
    running.wait_for("build | begun")

    assert running.stop(signal.SIGINT) == 130

    [message] = [line for line in running.lines if "goes on without this command" in line]
    workflow_id = message.split()[1]
    (site.folder / "go").touch()
    assert site.run("watch", workflow_id).returncode == 0
    assert (site.folder / "ledger").read_text().split() == ["build", "deploy"]
    assert up.stop() == 0


def test_two_runs_started_at_the_same_moment_both_come_to_their_end(site: Site) -> None:
    make_product(site)
    runs = [site.start("run", "product") for _ in range(2)]
    for run in runs:
        run.wait_for("build | begun")

    (site.folder / "go").touch()

    assert [run.wait() for run in runs] == [0, 0], [run.lines for run in runs]
    # The first to be done takes the orchestrator with it; the other one drives its release to the end.
    assert sorted((site.folder / "ledger").read_text().split()) == ["build", "build", "deploy", "deploy"]


def test_run_takes_over_when_the_up_that_drove_its_release_was_killed(site: Site) -> None:
    make_product(site)
    up = started_up(site)
    run = site.start("run", "product")
    run.wait_for("build | begun")

    up.stop(signal.SIGKILL)
    run.wait_for("this command takes over")
    (site.folder / "go").touch()

    assert run.wait() == 0, run.lines
    [workflow] = site.json("list")
    attempts = site.json("show", workflow["id"])["attempts"]
    assert [(attempt["milestone"], attempt["outcome"]) for attempt in attempts] == [
        ("build", "lost"),
        ("build", "completed"),
        ("deploy", "completed"),
    ]


def test_logs_are_followed_to_the_end(site: Site) -> None:
    make_product(site)
    started_up(site)
    workflow_id = submit(site)
    following = site.start("logs", workflow_id, "--follow")
    following.wait_for("build | begun")

    (site.folder / "go").touch()

    following.wait_for("deploy | begun")
    assert following.wait() == 0


def test_a_second_up_on_the_same_data_says_who_has_it(site: Site) -> None:
    first = started_up(site)
    second = site.run("up")
    assert second.returncode == 2
    assert str(first.popen.pid) in second.stderr
    assert "Traceback" not in second.stderr
