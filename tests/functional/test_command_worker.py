"""The command worker on the embedded broker, with real repositories, real git and real commands.

A desk plays the orchestrator's side, as for the tests of the SDK.
"""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from openaperture.codecs import json as json_codec
from openaperture.domain import messages as m
from openaperture.worker.command import CommandWorker
from openaperture.worker.command.artifacts import find_artifact
from openaperture.worker.command.manifest import read_manifest
from tests.contract.brokers import EmbeddedSite, Events
from tests.functional.test_worker_sdk import PATIENCE_SECONDS, Answering, Desk, always_run
from tests.processes import is_alive, wait_gone
from tests.unit.worker.repositories import commit, git, make_release, make_repository


class Bench:
    """A desk, a command worker, and a folder for repositories."""

    def __init__(self, desk: Desk, worker: CommandWorker, events: Events, folder: Path) -> None:
        self.desk = desk
        self.worker = worker
        self.events = events
        self.folder = folder

    def lines(self, workflow: str | None = None) -> list[str]:
        return [line for log in self.desk.of(m.Log, workflow) for line in log.lines]

    async def line(self, start: str) -> str:
        """The first line of output with this start."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (found := [line for line in self.lines() if line.startswith(start)]):
                self.desk.news.clear()
                await self.desk.news.wait()
        return found[0]

    async def ask(self, milestone: str = "build", workflow: str = "w1", **fields: Any) -> None:
        request = m.Request(
            id=workflow,
            milestones=[milestone],
            current_step=milestone,
            attempt_token=f"token.{workflow}.{milestone}",
            attempt=m.AttemptInfo(milestone=milestone, position=0, generation=0, number=1),
            idempotency_key=f"{workflow}.0.0",
            timeout_seconds=60.0,
            callback_exchange="",
            callback_routing_key=self.desk.callbacks,
            **{"inputs": {}, "heartbeat_seconds": 3.0, **fields},
        )
        await self.desk.send(json_codec.encode(request))

    async def completed(self, milestone: str = "build", workflow: str = "w1", **fields: Any) -> m.Completed:
        await self.ask(milestone, workflow, **fields)
        done: m.Completed = await self._result(workflow, m.Completed)
        return done

    async def failed(self, milestone: str = "build", workflow: str = "w1", **fields: Any) -> str:
        await self.ask(milestone, workflow, **fields)
        failed: m.Failed = await self._result(workflow, m.Failed)
        return failed.message

    def nothing_is_left(self) -> bool:
        return not list((self.folder / "work").glob("w-*/[0-9]*"))

    async def _result(self, workflow: str, kind: type) -> Any:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (found := self.desk.of(m.Completed, workflow) + self.desk.of(m.Failed, workflow)):
                self.desk.news.clear()
                await self.desk.news.wait()
        assert isinstance(found[0], kind), (found[0], self.lines(workflow))
        return found[0]


@asynccontextmanager
async def bench(folder: Path, *, answering: Answering = always_run, **options: Any) -> AsyncGenerator[Bench]:
    events = Events()
    site = EmbeddedSite(folder / "broker.db")
    async with site.open() as broker:
        desk = Desk(broker, site.queue(), site.queue(), answering)
        for queue in (desk.requests, desk.callbacks):
            await broker.declare(queue)
        worker = CommandWorker(
            broker,
            queues=[desk.requests],
            work_dir=folder / "work",
            artifacts_dir=folder / "artifacts",
            observer=events,
            **{"local_repositories": [folder], "slots": 2, "grace_seconds": 0.1, **options},
        )
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(desk.listen())
            running = tasks.create_task(worker.run())
            await events.wait_for("worker.ready")
            yield Bench(desk, worker, events, folder)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await worker.drain()
                await running
            listening.cancel()


async def test_a_file_that_build_makes_is_what_deploy_gets(tmp_path: Path) -> None:
    shop = make_release(
        tmp_path / "shop",
        {
            "build": {
                "run": ["mkdir dist", ["cp", "README", "dist/shop 1.txt"], "echo 1.2.3 > version"],
                "timeout": "5m",
                "outputs": {"package": {"file": "dist/*"}, "version": {"text": "version"}},
                "on_loss": "hold",
            },
            "deploy": {
                "run": [
                    'echo "version $OPENAPERTURE_INPUT_BUILD_VERSION"',
                    'cp "$OPENAPERTURE_INPUT_BUILD_PACKAGE" "$TARGET"',
                ]
            },
        },
        {"README": "the product\n"},
    )
    head = git(shop, "rev-parse", "HEAD")
    target = tmp_path / "deployed"
    async with bench(tmp_path, environment={"TARGET": str(target)}) as at:
        built = await at.completed("build", source_repo=str(shop))
        assert built.source_commit_hash == head
        assert built.outputs["version"] == "1.2.3"
        assert find_artifact(built.outputs["package"])
        declared = [beat for beat in at.desk.of(m.Heartbeat) if beat.on_loss]
        assert declared[0].on_loss == "hold"
        assert 300 < declared[0].timeout_seconds < 600

        commit(shop, {"README": "a later one\n"})
        deployed = await at.completed(
            "deploy",
            "w2",
            source_repo=str(shop),
            source_repo_git_ref="main",
            source_commit_hash=built.source_commit_hash,
            inputs={"build": built.outputs},
        )
        assert deployed.source_commit_hash == head
        assert target.read_text() == "the product\n"
        assert "version 1.2.3" in at.lines("w2")
        assert at.nothing_is_left()


async def test_commands_see_the_workflow_and_nothing_of_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OAUTH_CLIENT_SECRET", "client-secret-of-the-worker")
    monkeypatch.setenv("OPENAPERTURE_BROKER", "amqp://broker-secret@host")
    shop = make_release(
        tmp_path / "shop",
        {"build": {"run": [["env"], "pwd"], "environment": {"MODE": "release", "PLACE": "of the repository"}}},
    )
    settings = {
        "PLACE": "of the settings",
        "DEPLOY_TOKEN": "token-of-the-settings",
        "OPENAPERTURE_COMMIT": "forged",
    }
    async with bench(tmp_path, environment=settings) as at:
        done = await at.completed(source_repo=str(shop), inputs={"config": {"stage.name": "test; id"}})
        seen = dict(line.split("=", 1) for line in at.lines() if "=" in line)
        assert seen["MODE"] == "release"
        assert seen["PLACE"] == "of the settings"
        assert seen["DEPLOY_TOKEN"] == "***"
        assert seen["OPENAPERTURE_WORKFLOW_ID"] == "w1"
        assert seen["OPENAPERTURE_MILESTONE"] == "build"
        assert seen["OPENAPERTURE_COMMIT"] == done.source_commit_hash
        assert seen["OPENAPERTURE_IDEMPOTENCY_KEY"] == "w1.0.0"
        assert seen["OPENAPERTURE_INPUT_CONFIG_STAGE_NAME"] == "test; id"
        for folder in ("HOME", "TMPDIR", "OPENAPERTURE_KEPT_DIR"):
            assert seen[folder].startswith(str(tmp_path / "work"))
        assert at.lines()[-1].endswith("/tree")
        assert "OAUTH_CLIENT_SECRET" not in seen
        assert "OPENAPERTURE_BROKER" not in seen
        assert not any("secret" in line or "token-of" in line for line in at.lines())


async def test_the_first_command_that_fails_ends_the_milestone(tmp_path: Path) -> None:
    shop = make_release(tmp_path / "shop", {"build": {"run": ["echo one", "echo two; exit 3", "echo three"]}})
    async with bench(tmp_path) as at:
        reason = await at.failed(source_repo=str(shop))
        assert reason == "command 2 of 3 (echo two; exit 3) ended with exit code 3"
        assert [line for line in at.lines() if not line.startswith("$")][-2:] == ["one", "two"]
        assert at.nothing_is_left()


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("false; true", "exit code 1"),
        ("echo $NO_SUCH_VARIABLE", "exit code 2"),
        ("kill -SEGV $$", "signal SIGSEGV"),
        (["no-such-program", "x"], "no-such-program"),
        (["sh", "-c", "exit 9"], "exit code 9"),
    ],
)
async def test_every_way_to_fail_has_its_words(command: str | list[str], reason: str, tmp_path: Path) -> None:
    shop = make_release(tmp_path / "shop", {"build": {"run": [command]}})
    async with bench(tmp_path) as at:
        assert reason in await at.failed(source_repo=str(shop))


async def test_a_timeout_kills_the_group_and_says_so(tmp_path: Path) -> None:
    shop = make_release(
        tmp_path / "shop", {"build": {"run": ["sleep 300 & echo child $!; sleep 300"], "timeout": 0.5}}
    )
    async with bench(tmp_path) as at:
        reason = await at.failed(source_repo=str(shop))
        assert "timeout of 0.5 s" in reason
        assert reason.startswith("command 1 of 1 (sleep 300")
        wait_gone([int((await at.line("child")).split()[1])], 5)


async def test_a_cancel_kills_the_group(tmp_path: Path) -> None:
    shop = make_release(tmp_path / "shop", {"build": {"run": ["sleep 300 & echo child $!; sleep 300"]}})
    stop: list[bool] = []

    def answering(callback: m.AnyCallback) -> str:
        return "cancel" if stop and isinstance(callback, m.Heartbeat) else "run"

    async with bench(tmp_path, answering=answering) as at:
        await at.ask(source_repo=str(shop), heartbeat_seconds=1.0)
        pid = int((await at.line("child")).split()[1])
        assert is_alive(pid)
        stop.append(True)
        await at.desk.hear(m.Failed)
        wait_gone([pid], 5)
        assert at.nothing_is_left()


async def test_a_stop_of_the_worker_leaves_no_process_and_no_folder(tmp_path: Path) -> None:
    shop = make_release(tmp_path / "shop", {"build": {"run": ["setsid sleep 300 & echo child $!; sleep 300"]}})
    async with bench(tmp_path) as at:
        await at.ask(source_repo=str(shop))
        pid = int((await at.line("child")).split()[1])
        await at.worker.drain()
    wait_gone([pid], 5)
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["kept", "lock"]


async def test_an_artifact_that_was_changed_is_not_deployed(tmp_path: Path) -> None:
    shop = make_release(
        tmp_path / "shop",
        {
            "build": {"run": ["true"], "outputs": {"package": {"file": "README"}}},
            "deploy": {"run": ["touch $TARGET"]},
        },
        {"README": "x"},
    )
    target = tmp_path / "deployed"
    async with bench(tmp_path, environment={"TARGET": str(target)}) as at:
        built = await at.completed(source_repo=str(shop))
        artifact = find_artifact(built.outputs["package"])
        assert artifact is not None
        stored = tmp_path / "artifacts" / "sha256" / artifact.digest / artifact.name
        stored.write_text("y")
        reason = await at.failed("deploy", "w2", source_repo=str(shop), inputs={"build": built.outputs})
        assert "was changed after it was made" in reason
        assert not target.exists()


async def test_a_repository_without_the_file_or_the_milestone_is_told_what_to_write(tmp_path: Path) -> None:
    bare = make_repository(tmp_path / "bare")
    linked = make_repository(tmp_path / "linked")
    (linked / "openaperture.json").symlink_to("/etc/hostname")
    commit(linked, {})
    shop = make_release(tmp_path / "shop", {"build": {"run": ["true"]}})
    async with bench(tmp_path) as at:
        reason = await at.failed("build", "w1", source_repo=str(bare))
        assert 'no file openaperture.json at its root. Write for example: {"milestones": {"build"' in reason
        reason = await at.failed("deploy", "w2", source_repo=str(shop))
        assert 'does not declare the milestone "deploy" (it declares build)' in reason
        assert "symbolic link" in await at.failed("build", "w3", source_repo=str(linked))


async def test_problems_of_the_file_are_told_together(tmp_path: Path) -> None:
    shop = make_release(tmp_path / "shop", {"build": {"run": ["true"], "timout": 5}, "deploy": {}})
    async with bench(tmp_path) as at:
        reason = await at.failed(source_repo=str(shop))
        assert 'milestones.build.timout: unknown; did you mean "timeout"?' in reason
        assert "milestones.deploy.run: missing" in reason


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"source_repo": "ext::sh -c touch% /tmp/x"},
        {"source_repo": "/etc"},
        {"source_repo": "https://ada:hunter2@example.com/x"},
        {"source_repo": "{shop}", "source_repo_git_ref": "--upload-pack=id"},
        {"source_repo": "{shop}", "source_commit_hash": "abc"},
        {"deployment_repo": "{shop}", "deployment_repo_git_ref": "-x"},
    ],
)
async def test_a_hostile_request_fails_with_a_sentence_and_without_a_traceback(
    fields: dict[str, str], tmp_path: Path
) -> None:
    shop = make_release(tmp_path / "shop", {"build": {"run": ["true"]}})
    async with bench(tmp_path) as at:
        reason = await at.failed(**{name: text.format(shop=shop) for name, text in fields.items()})
        assert "refused" in reason or "names neither" in reason
        assert "hunter2" not in reason
        assert at.events.count("handler.failed") == 0


async def test_a_workflow_without_a_source_releases_its_deployment_repository(tmp_path: Path) -> None:
    shop = make_release(tmp_path / "shop", {"deploy": {"run": ["cat README"]}}, {"README": "on main"})
    git(shop, "checkout", "--quiet", "-b", "stable")
    commit(shop, {"README": "on stable"})
    git(shop, "checkout", "--quiet", "main")
    async with bench(tmp_path) as at:
        done = await at.completed("deploy", deployment_repo=str(shop), deployment_repo_git_ref="stable")
        assert done.source_commit_hash == git(shop, "rev-parse", "stable")
        assert at.lines()[-1] == "on stable"


async def test_whom_to_notify_goes_along_with_the_result(tmp_path: Path) -> None:
    wanted = {"hipchat": {"room_names": ["ops"]}, "email": {"groups": {"team": ["a@example.com"]}}}
    shop = make_release(tmp_path / "shop", {})
    text = '{"milestones": {"build": {"run": ["true"]}}, "deployments": {"notifications": %s}}'
    commit(shop, {"openaperture.json": text % str(wanted).replace("'", '"')})
    async with bench(tmp_path) as at:
        assert (await at.completed(source_repo=str(shop))).notifications_config == wanted


async def test_a_flood_of_output_is_cut_and_its_end_is_kept(tmp_path: Path) -> None:
    shop = make_release(tmp_path / "shop", {"build": {"run": ["seq 1 60000", "echo done"]}})
    async with bench(tmp_path) as at:
        await at.completed(source_repo=str(shop))
        lines = at.lines()
        assert len(lines) < 30_000
        assert any("left out" in line for line in lines)
        assert lines[-1] == "done"


async def test_two_releases_of_one_repository_run_side_by_side_in_folders_of_their_own(tmp_path: Path) -> None:
    command = 'mkfifo "$OPENAPERTURE_KEPT_DIR/$OPENAPERTURE_WORKFLOW_ID"; touch mine; ls | grep -c mine'
    meet = f"{command}; other=$(echo w1 w2 | tr ' ' '\\n' | grep -v $OPENAPERTURE_WORKFLOW_ID)"
    wait = (
        'until [ -p "$OPENAPERTURE_KEPT_DIR/$other" ]; do sleep 0.05; done; '
        'pipe="$OPENAPERTURE_KEPT_DIR/w2"; if [ $other = w2 ]; then echo > "$pipe"; else read -r _ < "$pipe"; fi'
    )
    shop = make_release(tmp_path / "shop", {"build": {"run": [f"{meet}; {wait}"]}})
    async with bench(tmp_path) as at:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(at.completed(workflow="w1", source_repo=str(shop)))
            tasks.create_task(at.completed(workflow="w2", source_repo=str(shop)))
        assert at.lines("w1")[-1] == at.lines("w2")[-1] == "1"


async def test_a_crash_of_the_folders_is_a_sentence(tmp_path: Path) -> None:
    shop = make_release(
        tmp_path / "shop", {"build": {"run": ["true"], "outputs": {"x": {"file": "README"}}}}, {"README": "x"}
    )
    (tmp_path / "artifacts").write_text("a file where the folder should be")
    async with bench(tmp_path) as at:
        assert "cannot use its folders" in await at.failed(source_repo=str(shop))


def test_the_manifest_of_this_project_is_read() -> None:
    root = Path(__file__).parents[2]
    manifest = read_manifest((root / "openaperture.json").read_bytes())
    assert manifest.milestone("build").outputs
    assert manifest.milestone("deploy").on_loss
    assert os.access(root / "scripts" / "deploy", os.X_OK)
