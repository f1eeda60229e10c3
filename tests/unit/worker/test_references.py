"""Only what the grammar allows reaches git."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openaperture.domain.errors import BadReference
from openaperture.worker.command.references import parse_commit, parse_ref, parse_repository, without_credentials


@pytest.mark.parametrize(
    ("text", "url", "transport", "host"),
    [
        ("https://github.com/acme/shop", "https://github.com/acme/shop", "https", "github.com"),
        ("https://github.com/acme/shop.git", "https://github.com/acme/shop.git", "https", "github.com"),
        ("https://example.com:8443/a/b/c.git/", "https://example.com:8443/a/b/c.git/", "https", "example.com"),
        ("https://[2001:db8::1]/acme/shop", "https://[2001:db8::1]/acme/shop", "https", "2001:db8::1"),
        ("https://example.com/~ada/shop%20one", "https://example.com/~ada/shop%20one", "https", "example.com"),
        ("ssh://git@example.com:2222/acme/shop", "ssh://git@example.com:2222/acme/shop", "ssh", "example.com"),
        ("ssh://example.com/acme/shop", "ssh://example.com/acme/shop", "ssh", "example.com"),
        ("git@github.com:acme/shop.git", "git@github.com:acme/shop.git", "ssh", "github.com"),
        ("git@example.com:/srv/shop", "git@example.com:/srv/shop", "ssh", "example.com"),
        ("acme/shop", "https://github.com/acme/shop.git", "https", "github.com"),
        ("acme/shop.git", "https://github.com/acme/shop.git", "https", "github.com"),
    ],
)  # fmt: skip
def test_an_ordinary_repository_is_taken(text: str, url: str, transport: str, host: str) -> None:
    repository = parse_repository(text)
    assert (repository.url, repository.transport, repository.host) == (url, transport, host)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "--upload-pack=touch /tmp/pwned",
        "-c",
        "--config=core.sshCommand=id",
        "ext::sh -c touch% /tmp/pwned",
        "ext::sh",
        "fd::17",
        "file:///etc",
        "file://localhost/etc",
        "git://example.com/acme/shop",
        "http://example.com/acme/shop",
        "ftp://example.com/acme/shop",
        "HTTPS://example.com/acme/shop",
        "ssh://-oProxyCommand=touch%20x/acme/shop",
        "ssh://git@-oProxyCommand=id/acme/shop",
        "ssh://-oProxyCommand=id@example.com/acme/shop",
        "ssh://git:password@example.com/acme/shop",
        "-oProxyCommand=id@example.com:acme/shop",
        "git@-oProxyCommand=id:acme/shop",
        "git@example.com:-oProxyCommand",
        "git@example.com:--upload-pack=id",
        "https://-example.com/acme/shop",
        "https://example-.com/acme/shop",
        "https://example.com",
        "https://example.com/",
        "https://example.com/-acme/shop",
        "https://example.com/acme/-shop",
        "https://example.com/../shop",
        "https://example.com/a/../../shop",
        "https://example.com/a/%2e%2E/shop",
        "https://example.com//acme",
        "https://example.com/acme//shop",
        "https://example.com/acme/shop?x=1",
        "https://example.com/acme/shop#frag",
        "https://example.com/acme shop",
        "https://example.com/acme/shop\nhost: x",
        "https://example.com/acme/shop\x00",
        "https://example.com:0/acme/shop",
        "https://example.com:99999/acme/shop",
        "https://example.com:/acme/shop",
        "https://ada:secret@example.com/acme/shop",
        "https://token@example.com/acme/shop",
        "https://exämple.com/acme/shop",
        "https://example.com/acme/shop$(id)",
        "https://example.com/acme/shop`id`",
        "https://example.com/acme/shop;id",
        "acme/-shop",
        "-acme/shop",
        "acme/../shop",
        "acme/..",
        "acme",
        "../acme/shop",
        "./shop",
        "~/shop",
        "C:\\shop",
        "https://example.com/" + "a" * 3000,
    ],
)
def test_any_other_repository_is_refused(text: str) -> None:
    with pytest.raises(BadReference):
        parse_repository(text, [Path("/tmp")])


@pytest.mark.parametrize(
    "text",
    [
        "https://ada:hunter2@example.com/acme/shop",
        "https://hunter2@example.com/acme/shop",
        "ssh://git:hunter2@example.com/acme/shop",
        "ftp://ada:hunter2@example.com/x",
    ],
)
def test_a_refusal_never_repeats_a_password(text: str) -> None:
    with pytest.raises(BadReference) as caught:
        parse_repository(text)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in without_credentials(f"fatal: unable to access '{text}': refused")


def test_a_local_repository_is_taken_only_below_an_allowed_folder(tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    (allowed / "shop").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (allowed / "way-out").symlink_to(tmp_path / "other")
    (tmp_path / "way-in").symlink_to(allowed)

    assert parse_repository(str(allowed / "shop"), [allowed]).transport == "file"
    assert parse_repository(str(tmp_path / "way-in" / "shop"), [allowed]).url == str(allowed / "shop")
    for refused in (tmp_path / "other", allowed / "way-out", allowed / ".." / "other"):
        with pytest.raises(BadReference, match="local_repositories"):
            parse_repository(str(refused), [allowed])
    with pytest.raises(BadReference, match="local_repositories"):
        parse_repository(str(allowed / "shop"))
    with pytest.raises(BadReference, match="no folder"):
        parse_repository(str(allowed / "missing"), [allowed])


@pytest.mark.parametrize(
    ("text", "candidates"),
    [
        (None, ("HEAD",)),
        ("", ("HEAD",)),
        ("HEAD", ("HEAD",)),
        ("main", ("refs/heads/main", "refs/tags/main")),
        ("feature/a.b_c-1", ("refs/heads/feature/a.b_c-1", "refs/tags/feature/a.b_c-1")),
        ("v1.2.3", ("refs/heads/v1.2.3", "refs/tags/v1.2.3")),
        ("refs/tags/v1", ("refs/tags/v1",)),
        ("abc123", ("refs/heads/abc123", "refs/tags/abc123")),
    ],
)
def test_a_ref_becomes_full_names(text: str | None, candidates: tuple[str, ...]) -> None:
    assert parse_ref(text).candidates == candidates


@pytest.mark.parametrize("length", [40, 64])
def test_a_full_hash_is_a_commit(length: int) -> None:
    assert parse_ref("A1" * (length // 2)).commit == "a1" * (length // 2)
    assert parse_commit("A1" * (length // 2)) == "a1" * (length // 2)


@pytest.mark.parametrize(
    "text",
    [
        "--upload-pack=touch X; git-upload-pack",
        "-x",
        "-",
        "a..b",
        "a@{1}",
        "@",
        "a//b",
        "a/",
        "/a",
        ".a",
        "a/.b",
        "a.",
        "a/-b",
        "a.lock",
        "a.lock/b",
        "a b",
        "a\nb",
        "a~1",
        "a^",
        "a:b",
        "+a",
        "*",
        "a?",
        "a[b",
        "a\\b",
        "ä",
        "a" * 256,
    ],
)
def test_any_other_ref_is_refused(text: str) -> None:
    with pytest.raises(BadReference):
        parse_ref(text)


@pytest.mark.parametrize("text", ["", "abc123", "g" * 40, "a" * 41, "HEAD", "-" * 40])
def test_a_commit_is_a_full_hash(text: str) -> None:
    with pytest.raises(BadReference):
        parse_commit(text)


@given(st.text(max_size=60) | st.from_regex(r"[-a-z./:@%]{1,30}"))
def test_whatever_is_taken_cannot_be_an_option_or_a_command(text: str) -> None:
    try:
        url = parse_repository(text).url
    except BadReference:
        pass
    else:
        assert re.match(r"(https|ssh)://[A-Za-z0-9_\[]|[A-Za-z_][A-Za-z0-9._-]*@[A-Za-z0-9\[]", url)
        assert "::" not in url.split("[")[0]
    try:
        candidates = parse_ref(text).candidates
    except BadReference:
        return
    assert all(name == "HEAD" or name.startswith("refs/") for name in candidates)
