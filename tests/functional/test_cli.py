"""Commands as processes, on the embedded default: results, exit codes, words."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functional.command_line import TIMEOUT_SECONDS, Site, commit, make_repository


def releasable(target: Path) -> dict[str, Any]:
    """A manifest whose build makes a file and whose deploy puts that file at `target`."""
    return {
        "milestones": {
            "build": {
                "run": ["mkdir dist", "echo made of $OPENAPERTURE_COMMIT > dist/product-1.whl"],
                "outputs": {"wheel": {"file": "dist/*.whl"}},
            },
            "deploy": {
                "run": ['cp "$OPENAPERTURE_INPUT_BUILD_WHEEL" "$TARGET"'],
                "environment": {"TARGET": str(target)},
                "on_loss": "retry",
            },
        }
    }


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.clean_up()


def test_a_release_completes_and_hands_the_artifact_from_build_to_deploy(site: Site) -> None:
    target = site.folder / "deployed.whl"
    repository = make_repository(site.folder / "product", releasable(target))
    current = commit_of(repository)

    done = site.run("run", "product")

    assert done.returncode == 0, done.stdout + done.stderr
    assert target.read_text() == f"made of {current}\n"
    assert "build completed" in done.stdout
    assert "deploy completed" in done.stdout
    assert "\ncompleted after " in done.stdout
    assert "\x1b" not in done.stdout


def test_the_result_as_json_is_one_document_with_outputs_and_commit(site: Site) -> None:
    manifest = {"milestones": {"build": {"run": ["echo 1.2 > v"], "outputs": {"version": {"text": "v"}}}}}
    repository = make_repository(site.folder / "product", manifest)

    workflow = site.json("run", "product", "--milestones", "build")

    assert workflow["state"] == "completed"
    assert workflow["source_commit_hash"] == commit_of(repository)
    assert workflow["outputs"] == {"build": {"version": "1.2"}}
    assert [listed["id"] for listed in site.json("list")] == [workflow["id"]]
    assert site.json("show", workflow["id"][:7])["id"] == workflow["id"]
    assert "build | $ echo 1.2 > v" in site.run("logs", workflow["id"]).stdout


def test_a_failing_command_fails_the_release_and_its_output_is_shown(site: Site) -> None:
    manifest = {"milestones": {"build": {"run": ["echo the compiler is unhappy; exit 3"]}}}
    make_repository(site.folder / "product", manifest)

    done = site.run("run", "product")

    assert done.returncode == 1
    summary = done.stdout[done.stdout.index("\nfailed after") :]
    assert "exit code 3" in summary
    assert "  | the compiler is unhappy" in summary
    assert "deploy  not reached" in summary
    assert "openaperture logs" in summary


def test_a_repository_without_a_manifest_says_what_to_write(site: Site) -> None:
    make_repository(site.folder / "product", None)

    done = site.run("run", "product")

    assert done.returncode == 1
    assert "openaperture.json" in done.stdout
    assert '"milestones"' in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_an_unknown_milestone_is_refused_with_those_that_are_known(site: Site) -> None:
    make_repository(site.folder / "product", releasable(site.folder / "deployed"))

    done = site.run("run", "product", "--milestones", "build,polish")

    assert done.returncode == 2
    assert "polish" in done.stderr
    assert "approval, build, config" in " ".join(done.stderr.split())
    assert "[milestones." in done.stderr


def test_no_milestones_complete_at_once(site: Site) -> None:
    make_repository(site.folder / "product", releasable(site.folder / "deployed"))
    done = site.run("run", "product", "--milestones", "")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "completed after" in done.stdout


def test_escape_sequences_of_a_build_do_not_reach_the_terminal(site: Site) -> None:
    manifest = {"milestones": {"build": {"run": [r"printf '\033]0;owned\007\033[2J[red]hello[/red]\n'; exit 1"]}}}
    make_repository(site.folder / "product", manifest)

    done = site.run("run", "product", "--milestones", "build")

    output = [line for line in done.stdout.splitlines() if "hello" in line and "printf" not in line]
    assert output[0].endswith("build | [red]hello[/red]")
    assert output[1] == "  | [red]hello[/red]"
    assert not set(done.stdout) & {"\x1b", "\x07", "\x9b"}


def test_uncommitted_changes_are_noted_and_not_released(site: Site) -> None:
    repository = make_repository(site.folder / "product", {"milestones": {"build": {"run": ["cat README"]}}})
    (repository / "README").write_text("not committed\n")

    done = site.run("run", "product", "--milestones", "build")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "note: 1 file has uncommitted changes" in done.stderr
    assert "build | a product" in done.stdout
    assert "not committed" not in done.stdout


def test_the_ref_that_is_named_is_what_is_released(site: Site) -> None:
    repository = make_repository(site.folder / "product", {"milestones": {"build": {"run": ["cat README"]}}})
    (repository / "README").write_text("the second\n")
    commit(repository)

    older = site.run("run", "product", "--ref", "HEAD~1", "--milestones", "build")
    branch = site.run("run", "product", "--ref", "main", "--milestones", "build")

    assert "build | a product" in older.stdout
    assert "build | the second" in branch.stdout
    assert "at main" in branch.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "."), "is not in a git repository"),
        (("run", "./missing"), "there is no folder"),
        (("run", "product", "--ref", "nowhere"), 'no branch, tag or commit "nowhere"'),
        (("run", ""), "the repository is empty"),
        (("show", "0d9f"), "no workflow begins with 0d9f"),
        (("cancel", "11111111-2222-3333-4444-555555555555"), "there is no workflow 11111111"),
        (("orchestrator",), '"openaperture up"'),
        (("worker",), '"openaperture up"'),
        (("--config", "missing.toml", "list"), "missing.toml does not exist"),
        (("lst",), "No such command"),
        (("resolve", "0d9f", "perhaps"), ": 'perhaps' is not one of 'worked',"),
        (("list", "--limit", "x"), "'x' is no whole number; write digits"),
        (("list", "--limit", "0"), "0 is too small; write 1 or more"),
        (("run", "product", "--milestones", "build,,deploy"), '--milestones "build,,deploy" has an empty name'),
        (("run", "product", "--on-failure", "a+b"), "one after the other"),
        (("run", "product", "--lock", "bad lock"), "begin it with a letter or a digit"),
        (("run", "product", "--lock-from", "build"), "add --lock NAME"),
        (("tokens", "revoke", "mine"), 'you have no token mine; "openaperture tokens list" shows yours'),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_done_is_said_in_a_sentence_with_exit_code_2(
    site: Site, arguments: tuple[str, ...], words: str
) -> None:
    make_repository(site.folder / "product", releasable(site.folder / "deployed"))
    done = site.run(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert words in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_every_problem_of_the_configuration_is_listed_at_once(site: Site) -> None:
    (site.folder / "openaperture.toml").write_text('broker = "smtp://x"\nqueue = "y"\n[worker]\nslots = -1\n')
    site.variables["OPENAPERTURE_MANAGER__PORT"] = "eighty"

    for command in (("config", "check"), ("list",), ("up",)):
        done = site.run(*command)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 4, done.stderr
        for name in ("broker", "queue", "worker.slots", "OPENAPERTURE_MANAGER__PORT"):
            assert name in done.stderr


def test_the_configuration_is_shown_without_its_secrets(site: Site) -> None:
    site.variables["OPENAPERTURE_BROKER"] = "amqps://me:hunter2hunter2@broker.test/"
    site.variables["OPENAPERTURE_TOKEN_KEY"] = "a-very-secret-key-of-ours"
    shown = site.run("config", "show")
    assert shown.returncode == 0, shown.stderr
    assert "broker.test" in shown.stdout
    assert "hunter2" not in shown.stdout
    assert "very-secret" not in shown.stdout + site.run("config", "show", "--json").stdout


def test_a_database_that_cannot_be_opened_is_one_sentence_with_exit_code_5(site: Site) -> None:
    (site.folder / "data" / "openaperture.db").mkdir(parents=True)
    done = site.run("list")
    assert done.returncode == 5
    [sentence] = done.stderr.splitlines()
    assert "openaperture.db" in sentence


def test_a_data_folder_that_cannot_be_made_is_one_sentence_with_exit_code_2(site: Site) -> None:
    (site.folder / "file").touch()
    site.variables["OPENAPERTURE_DATA_DIR"] = str(site.folder / "file" / "data")
    done = site.run("list")
    assert done.returncode == 2
    [sentence] = done.stderr.splitlines()
    assert "data_dir" in sentence


@pytest.mark.parametrize(
    ("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_a_terminal_gets_live_progress_unless_it_wants_none(
    site: Site, variables: dict[str, str], coloured: bool
) -> None:
    make_repository(site.folder / "product", {"milestones": {"build": {"run": ["echo hello"]}}})
    site.variables |= {"TERM": "xterm-256color", **variables}

    code, shown = on_a_terminal(site, "run", "product", "--milestones", "build")

    assert code == 0, shown
    assert ("\x1b[" in shown) is coloured
    assert "completed after" in shown


def test_ctrl_c_leaves_the_release_to_go_on_later_and_says_how(site: Site) -> None:
    go = site.folder / "go"
    waiting = f'echo begun; until [ -e "{go}" ]; do sleep 0.05; done'
    manifest = {"milestones": {"build": {"run": [waiting]}}}
    make_repository(site.folder / "product", manifest)
    site.variables["OPENAPERTURE_WORKER__GRACE_SECONDS"] = "0.2"
    running = site.start("run", "product", "--milestones", "build")
    running.wait_for("build | begun")

    assert running.stop(signal.SIGINT) == 130

    [message] = [line for line in running.lines if "is saved and goes on" in line]
    workflow_id = message.split("release ")[1].split()[0]
    assert f'"openaperture watch {workflow_id}"' in "\n".join(running.lines)
    standing = site.run("watch", workflow_id)
    assert standing.returncode == 5
    assert '"openaperture up"' in standing.stderr

    go.touch()
    up = site.start("up")
    up.wait_for("worker.ready")
    watched = site.run("watch", workflow_id)
    assert watched.returncode == 0, watched.stdout + watched.stderr
    assert up.stop() == 0


def test_ctrl_c_in_the_middle_of_a_deploy_says_that_the_release_is_held_and_by_what_it_goes_on(site: Site) -> None:
    manifest = {"milestones": {"deploy": {"run": ["echo begun; sleep 60"]}}}
    make_repository(site.folder / "product", manifest)
    site.variables["OPENAPERTURE_WORKER__GRACE_SECONDS"] = "0.2"
    running = site.start("run", "product", "--milestones", "deploy")
    running.wait_for("deploy | begun")

    assert running.stop(signal.SIGINT) == 130

    [release] = site.json("list")
    assert release["state"] == "held"
    words = "\n".join(running.lines)
    assert f"release {release['id']} is held: the outcome of deploy is unknown" in words
    assert f'look at the target, then say "openaperture resolve {release["id"]} worked"' in words
    assert "goes on when" not in words


COMMANDS = (
    *("run", "submit", "list", "show", "watch", "logs", "cancel", "resolve"),
    *("up", "orchestrator", "manager", "worker", "config", "bench", "version"),
)


def test_every_command_answers_help(site: Site) -> None:
    top = site.run("--help")
    assert top.returncode == 0
    for name in COMMANDS:
        assert f" {name} " in top.stdout
        helped = site.run(name, "--help")
        assert helped.returncode == 0
        assert f"openaperture {name}" in helped.stdout
    assert not (site.folder / "data").exists()


def test_the_version_is_printed_by_command_and_option(site: Site) -> None:
    assert site.run("version").stdout == site.run("--version").stdout
    assert site.run("--version").stdout.startswith("openaperture ")


def test_a_reader_that_goes_away_ends_a_run_without_an_error(site: Site) -> None:
    make_repository(site.folder / "product", releasable(site.folder / "deployed"))
    command = [sys.executable, "-m", "openaperture", "run", "product"]
    with subprocess.Popen(
        command, cwd=site.folder, env=site.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(TIMEOUT_SECONDS) == 141
        assert process.stderr.read() == ""


def commit_of(repository: Path) -> str:
    return subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=repository, text=True).strip()


def on_a_terminal(site: Site, *arguments: str) -> tuple[int, str]:
    """Exit code and everything that the command wrote to a terminal of its own."""
    mine, its = pty.openpty()
    command = [sys.executable, "-m", "openaperture", *arguments]
    with subprocess.Popen(
        command, cwd=site.folder, env=site.environment(), stdin=subprocess.DEVNULL, stdout=its, stderr=its
    ) as process:
        os.close(its)
        shown = b""
        while True:
            try:
                piece = os.read(mine, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            shown += piece
        os.close(mine)
        return process.wait(TIMEOUT_SECONDS), shown.decode()
