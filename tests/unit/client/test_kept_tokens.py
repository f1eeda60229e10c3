"""Tokens on disk: for their owner alone, whole or not at all."""

import json
from pathlib import Path

import pytest

from openaperture.client.kept_tokens import KeptTokens, default_file
from openaperture.domain.errors import ConfigError

URL = "https://releases.example.org"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config" / "openaperture" / "tokens.json"


def test_a_kept_token_is_found_with_and_without_the_slash(file: Path) -> None:
    tokens = KeptTokens(file)
    assert tokens.find(URL) is None
    tokens.keep(f"{URL}/", "oap_1")
    tokens.keep("https://other.example.org", "oap_2")
    assert (tokens.find(URL), KeptTokens(file).find(f"{URL}/")) == ("oap_1", "oap_1")
    assert tokens.forget(URL)
    assert not tokens.forget(URL)
    assert (tokens.find(URL), tokens.find("https://other.example.org")) == (None, "oap_2")


def test_nobody_else_can_read_the_file_or_look_into_its_folder(file: Path) -> None:
    KeptTokens(file).keep(URL, "oap_1")
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in file.parent.iterdir()] == ["tokens.json"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o622])
def test_a_file_that_others_could_read_is_refused(file: Path, mode: int) -> None:
    tokens = KeptTokens(file)
    tokens.keep(URL, "oap_1")
    file.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        tokens.find(URL)
    with pytest.raises(ConfigError, match="chmod 600"):
        tokens.keep(URL, "oap_2")
    assert "oap_2" not in file.read_text()


@pytest.mark.parametrize("text", ["{", "[]", "null", "\xff"])
def test_a_file_that_is_no_table_of_tokens_is_refused_with_what_to_do(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="latin-1")
    file.chmod(0o600)
    with pytest.raises(ConfigError, match="remove it"):
        KeptTokens(file).find(URL)


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(ConfigError, match=r"tokens\.json"):
        KeptTokens(tmp_path / "taken" / "tokens.json").keep(URL, "oap_1")


def test_what_is_no_token_is_passed_over(file: Path) -> None:
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({URL: 7, "https://other.example.org": "oap_2"}))
    file.chmod(0o600)
    assert KeptTokens(file).find(URL) is None


def test_the_file_lies_where_the_user_keeps_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_file({}) == tmp_path / ".config" / "openaperture" / "tokens.json"
    assert default_file({"XDG_CONFIG_HOME": "/x"}) == Path("/x/openaperture/tokens.json")
    assert default_file({"XDG_CONFIG_HOME": "relative"}) == tmp_path / ".config" / "openaperture" / "tokens.json"
