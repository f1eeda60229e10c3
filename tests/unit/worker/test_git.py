"""Checking out, with the real git: what is asked for arrives, and what is hostile does nothing."""

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openaperture.domain.errors import BadReference, MilestoneFailed, OpenApertureError
from openaperture.worker.command.addresses import is_allowed, is_literal, is_proxied, networks
from openaperture.worker.command.environment import passed_to_git
from openaperture.worker.command.git import Clone, GitFailed, GitLimits
from openaperture.worker.command.references import Ref, Repository, parse_ref, parse_repository
from openaperture.worker.command.workspace import WorkFolder, Workspace
from tests.unit.worker.https_git import https_server
from tests.unit.worker.repositories import commit, git, make_repository


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[WorkFolder]:
    opened = WorkFolder(tmp_path / "work")
    yield opened
    opened.close()


@pytest.fixture
def space(folder: WorkFolder) -> Workspace:
    return folder.open("a repository")


_PROTOCOL_0 = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "protocol.version", "GIT_CONFIG_VALUE_0": "0"}


def _clone(repository: Path | Repository, space: Workspace, limits: GitLimits | None = None) -> Clone:
    if isinstance(repository, Path):
        repository = parse_repository(str(repository), [repository.parent])
    inherited = passed_to_git(os.environ)
    return Clone(repository=repository, space=space, inherited=inherited, limits=limits or GitLimits())


async def _check_out(repository: Path, space: Workspace, ref: str | None = None, known: str | None = None) -> str:
    said: list[str] = []
    return await _clone(repository, space).check_out(parse_ref(ref), known, said.append)


async def test_the_default_branch_a_branch_a_tag_and_a_commit_are_checked_out(
    tmp_path: Path, folder: WorkFolder
) -> None:
    shop = make_repository(tmp_path / "shop")
    first = git(shop, "rev-parse", "HEAD")
    git(shop, "tag", "--annotate", "v1", "--message=one")
    second = commit(shop, {"README": "second\n"})
    git(shop, "branch", "feature/x", first)
    git(shop, "branch", "both", first)
    git(shop, "tag", "both", second)
    wanted = {
        None: second,
        "HEAD": second,
        "main": second,
        "feature/x": first,
        "v1": first,
        first: first,
        "both": first,
    }
    for ref, expected in wanted.items():
        space = folder.open("shop")
        assert await _check_out(shop, space, ref) == expected
        assert git(space.tree, "rev-parse", "HEAD") == expected
        assert (space.tree / "README").read_text() == ("second\n" if expected == second else "hello\n")


async def test_a_commit_that_was_resolved_before_wins_over_a_ref_that_moved(
    tmp_path: Path, space: Workspace
) -> None:
    shop = make_repository(tmp_path / "shop")
    first = git(shop, "rev-parse", "HEAD")
    commit(shop, {"README": "second\n"})
    assert await _check_out(shop, space, "main", known=first) == first
    assert (space.tree / "README").read_text() == "hello\n"


async def test_only_the_wanted_commit_is_fetched(tmp_path: Path, space: Workspace) -> None:
    shop = make_repository(tmp_path / "shop")
    commit(shop, {"README": "second\n"})
    await _check_out(shop, space)
    assert git(space.tree, "rev-list", "--count", "HEAD") == "1"


async def test_a_commit_that_the_server_does_not_give_alone_is_found_in_the_history(
    tmp_path: Path, space: Workspace
) -> None:
    shop = make_repository(tmp_path / "shop")
    first = git(shop, "rev-parse", "HEAD")
    commit(shop, {"README": "second\n"})
    git(shop, "config", "uploadpack.allowAnySHA1InWant", "false")
    said: list[str] = []
    # Protocol 0 keeps to what is advertised; the first try fails there.
    old = _clone(shop, space)
    old = Clone(
        repository=old.repository,
        space=space,
        inherited={**old.inherited, **_PROTOCOL_0},
    )
    assert await old.check_out(parse_ref(first), None, said.append) == first
    assert any("all branches and tags" in line for line in said)


async def test_a_repository_with_sha256_hashes_is_checked_out(tmp_path: Path, folder: WorkFolder) -> None:
    shop = make_repository(tmp_path / "shop", kind="sha256")
    head = git(shop, "rev-parse", "HEAD")
    assert len(head) == 64
    assert await _check_out(shop, folder.open("shop")) == head
    assert await _check_out(shop, folder.open("shop"), head) == head


async def test_what_does_not_exist_is_named(tmp_path: Path, folder: WorkFolder) -> None:
    shop = make_repository(tmp_path / "shop")
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "--quiet")
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    with pytest.raises(BadReference, match='"no-such" is neither a branch nor a tag'):
        await _check_out(shop, folder.open("x"), "no-such")
    with pytest.raises(BadReference, match=f"no commit {'1' * 40}"):
        await _check_out(shop, folder.open("x"), "1" * 40)
    with pytest.raises(BadReference, match="no commit yet"):
        await _check_out(empty, folder.open("x"))
    with pytest.raises(GitFailed, match="nothing"):
        await _check_out(nothing, folder.open("x"))


async def test_a_blob_is_no_commit(tmp_path: Path, space: Workspace) -> None:
    shop = make_repository(tmp_path / "shop")
    blob = git(shop, "rev-parse", "HEAD:README")
    with pytest.raises(BadReference, match="no commit"):
        await _check_out(shop, space, blob)


def _give_to_nobody(folder: Path) -> None:
    subprocess.run(["chown", "-R", "nobody", str(folder)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a repository to another user")
async def test_a_local_repository_of_another_user_is_checked_out(tmp_path: Path, space: Workspace) -> None:
    shop = make_repository(tmp_path / 'sh"op \\ one')
    head = git(shop, "rev-parse", "HEAD")
    _give_to_nobody(shop)
    assert await _check_out(shop, space) == head


# ------------------------------------------------------------------------------------------ hostile


_Attack = Callable[[Path], tuple[str, str | None]]
_ATTACKS: dict[str, _Attack] = {
    "a ref that is an option": lambda mark: ("shop", f"--upload-pack=touch {mark}; git-upload-pack"),
    "a repository that is an option": lambda mark: (f"--upload-pack=touch {mark}; git-upload-pack", None),
    "a configuration option": lambda mark: (f"--config=core.sshCommand=touch {mark}", None),
    "a command transport": lambda mark: (f"ext::sh -c touch% {mark}", None),
    "a file address": lambda mark: (f"file://{mark.parent}/shop", None),
    "a path that is not allowed": lambda mark: (str(mark.parent), None),
    "an ssh proxy command": lambda mark: (f"ssh://-oProxyCommand=touch%20{mark}/x", None),
    "an ssh proxy command in short form": lambda mark: (f"-oProxyCommand=touch {mark}:x", None),
    "a shell in the address": lambda mark: (f"https://example.com/$(touch {mark})", None),
    "a shell in the ref": lambda mark: ("shop", f"main;touch {mark}"),
}


@pytest.mark.parametrize("attack", _ATTACKS.values(), ids=_ATTACKS)
async def test_a_hostile_address_or_ref_does_nothing(attack: _Attack, tmp_path: Path, space: Workspace) -> None:
    make_repository(tmp_path / "shop")
    mark = tmp_path / "pwned"
    address, ref = attack(mark)
    given = str(tmp_path / "shop") if address == "shop" else address

    async def release() -> None:
        repository = parse_repository(given, [tmp_path / "shop"])
        await _clone(repository, space).check_out(parse_ref(ref), None, lambda _: None)

    with pytest.raises(BadReference):
        await release()
    assert not mark.exists()


@pytest.mark.parametrize("ref", ["--upload-pack=id", "-x", "refs/heads/a/../b"])
async def test_even_past_the_grammar_git_takes_no_option_out_of_a_ref(
    ref: str, tmp_path: Path, space: Workspace
) -> None:
    shop = make_repository(tmp_path / "shop")
    hostile = Ref(text=ref, candidates=(f"--upload-pack=touch {tmp_path}/pwned; git-upload-pack", ref))
    with pytest.raises(OpenApertureError):
        await _clone(shop, space).check_out(hostile, None, lambda _: None)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "url",
    ["ext::sh -c touch% {mark}", "--upload-pack=touch {mark}", "file://{shop}", "{shop}", "git://127.0.0.1/x"],
)
@pytest.mark.parametrize("transport", ["https", "ssh"])
async def test_even_past_the_grammar_git_uses_no_other_transport(
    url: str, transport: str, tmp_path: Path, space: Workspace
) -> None:
    shop = make_repository(tmp_path / "shop")
    address = url.format(mark=tmp_path / "pwned", shop=shop)
    hostile = Repository(url=address, transport=transport, host="127.0.0.1")
    limits = GitLimits(private_networks=networks(["127.0.0.0/8"]))
    with pytest.raises(GitFailed):
        await _clone(hostile, space, limits).check_out(parse_ref("main"), None, lambda _: None)
    assert not (tmp_path / "pwned").exists()
    assert not (space.tree / "README").exists()


async def test_nothing_that_lies_in_a_repository_runs(tmp_path: Path, space: Workspace) -> None:
    shop = make_repository(tmp_path / "shop")
    mark = tmp_path / "pwned"
    for hook in ("post-checkout", "pre-upload-pack", "reference-transaction", "fsmonitor"):
        path = shop / ".git" / "hooks" / hook
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\ntouch {mark}\n")
        path.chmod(0o755)
    git(shop, "config", "core.fsmonitor", str(shop / ".git/hooks/fsmonitor"))
    git(shop, "config", "uploadpack.packObjectsHook", f"touch {mark};")
    git(shop, "config", "filter.evil.smudge", f"touch {mark}; cat")
    commit(
        shop,
        {
            ".gitattributes": "* filter=evil\n",
            ".gitmodules": f'[submodule "s"]\n\tpath = s\n\turl = "ext::touch {mark}"\n\tupdate = !touch {mark}\n',
        },
    )
    mark.unlink(missing_ok=True)
    await _check_out(shop, space)
    assert (space.tree / "README").exists()
    assert not mark.exists()


async def test_settings_of_the_user_and_the_machine_do_not_count(
    tmp_path: Path, space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = make_repository(tmp_path / "shop")
    other = make_repository(tmp_path / "other", {"README": "another\n"})
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(f'[url "{other}"]\n\tinsteadOf = {shop}\n')
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / ".gitconfig"))
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    await _check_out(shop, space)
    assert (space.tree / "README").read_text() == "hello\n"


# ------------------------------------------------------------------------------------------ bounds


async def test_a_server_that_says_nothing_is_left_in_time(space: Workspace) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    limits = GitLimits(seconds=0.5, private_networks=networks(["127.0.0.0/8"]))
    clone = _clone(parse_repository(f"https://127.0.0.1:{port}/acme/shop"), space, limits)
    async with server:
        with pytest.raises(MilestoneFailed, match=r"within 0 s|within 1 s"):
            await clone.check_out(parse_ref(None), None, lambda _: None)


async def test_a_repository_that_is_too_large_is_left(tmp_path: Path, space: Workspace) -> None:
    shop = make_repository(tmp_path / "shop")
    for number in range(12):
        (shop / f"big{number}").write_bytes(os.urandom(1_000_000))
    commit(shop, {})
    # Slowed down so that the measurement comes before the end, whatever the machine.
    slow = tmp_path / "bin" / "git-upload-pack"
    slow.parent.mkdir()
    slow.write_text(
        '#!/bin/sh\ngit upload-pack "$@" | (dd bs=1M count=8 iflag=fullblock 2>/dev/null; exec sleep 30)\n'
    )
    slow.chmod(0o755)
    clone = _clone(shop, space, GitLimits(bytes_on_disk=5_000_000))
    inherited = {**clone.inherited, "PATH": f"{slow.parent}:{clone.inherited['PATH']}"}
    slowed = Clone(repository=clone.repository, space=space, inherited=inherited, limits=clone.limits)
    with pytest.raises(MilestoneFailed, match="grew beyond the limit"):
        await slowed.check_out(parse_ref(git(shop, "rev-parse", "HEAD")), None, lambda _: None)


async def test_a_cancel_in_the_middle_of_a_clone_ends_git(space: Workspace) -> None:
    connected = asyncio.Event()
    gone = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()  # until the other side is gone
        gone.set()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    limits = GitLimits(private_networks=networks(["127.0.0.0/8"]))
    clone = _clone(parse_repository(f"https://127.0.0.1:{port}/acme/shop"), space, limits)
    async with server:
        task = asyncio.create_task(clone.check_out(parse_ref(None), None, lambda _: None))
        await connected.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await gone.wait()


# --------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1",
        "192.168.1.1", "169.254.169.254", "100.64.0.1", "localhost", "[::1]", "[::]", "[::ffff:127.0.0.1]",
        "[::ffff:169.254.169.254]", "[fe80::1]", "[fd00::1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "224.0.0.1",
    ],
)  # fmt: skip
@pytest.mark.parametrize("address", ["https://{}/acme/shop", "ssh://git@{}/acme/shop"])
async def test_no_private_address_is_fetched_from(host: str, address: str, space: Workspace) -> None:
    clone = _clone(parse_repository(address.format(host)), space)
    with pytest.raises(BadReference, match="not public"):
        await clone.check_out(parse_ref(None), None, lambda _: None)


def test_a_private_network_is_allowed_by_name() -> None:
    allowed = networks(["10.0.0.0/8", "fd00::/8"])
    assert is_allowed("10.1.2.3", allowed)
    assert is_allowed("fd00::1", allowed)
    assert is_allowed("::ffff:10.1.2.3", allowed)
    assert not is_allowed("192.168.1.1", allowed)
    assert is_allowed("140.82.121.3", ())


def test_a_proxy_decides_about_names_unless_the_host_is_excepted() -> None:
    environment = {"HTTPS_PROXY": "http://proxy:3128", "no_proxy": "localhost, .example.com"}
    assert is_proxied("github.com", environment)
    assert not is_proxied("git.example.com", environment)
    assert not is_proxied("github.com", {"NO_PROXY": "github.com", **environment, "no_proxy": "github.com"})
    assert not is_proxied("github.com", {})
    assert not is_proxied("github.com", {"https_proxy": "http://proxy", "no_proxy": "*"})
    assert is_literal("127.1")
    assert is_literal("::1")
    assert not is_literal("localhost")


async def test_an_address_behind_a_proxy_is_still_checked(space: Workspace) -> None:
    clone = _clone(parse_repository("https://169.254.169.254/latest"), space)
    proxied = Clone(
        repository=clone.repository, space=space, inherited={**clone.inherited, "https_proxy": "http://p:1"}
    )
    with pytest.raises(BadReference, match="not public"):
        await proxied.check_out(parse_ref(None), None, lambda _: None)


# ------------------------------------------------------------------------------------------- https


async def test_a_repository_is_checked_out_over_https_without_following_redirects(
    tmp_path: Path, folder: WorkFolder
) -> None:
    shop = make_repository(tmp_path / "repositories" / "shop")
    head = git(shop, "rev-parse", "HEAD")
    commit(shop, {"README": "second\n"})
    limits = GitLimits(private_networks=networks(["127.0.0.0/8", "::1/128"]))
    with https_server(tmp_path / "repositories", tmp_path) as (port, certificate):

        async def check_out(path: str, **inherited: str) -> str:
            space = folder.open(path)
            clone = Clone(
                repository=parse_repository(f"https://localhost:{port}/{path}"),
                space=space,
                inherited={"PATH": os.environ["PATH"], **inherited},
                limits=limits,
            )
            await clone.check_out(parse_ref(head), None, lambda _: None)
            return (space.tree / "README").read_text()

        trusted = {"GIT_SSL_CAINFO": str(certificate)}
        assert await check_out("shop/.git", **trusted) == "hello\n"
        with pytest.raises(GitFailed, match="certificate"):
            await check_out("shop/.git")
        with pytest.raises(GitFailed, match="redirect"):
            await check_out("redirect/shop/.git", **trusted)
        with pytest.raises(GitFailed, match="not found"):
            await check_out("no-such", **trusted)
