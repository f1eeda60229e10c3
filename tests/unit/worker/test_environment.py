"""What commands and git get to see of the worker's environment."""

from pathlib import Path

import pytest

from openaperture.domain.errors import MilestoneFailed
from openaperture.worker.command.environment import Masking, passed_to_commands, passed_to_git, variables_of_inputs

_WORKER = {
    "PATH": "/bin",
    "LANG": "C.UTF-8",
    "HTTPS_PROXY": "http://proxy:3128",
    "PIP_INDEX_URL": "https://index.example.com/simple",
    "OPENAPERTURE_BROKER": "amqp://user:secret@broker",
    "OAUTH_CLIENT_SECRET": "secret",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "SSH_AUTH_SOCK": "/run/agent",
    "GIT_DIR": "/elsewhere",
    "LD_PRELOAD": "/evil.so",
    "PYTHONPATH": "/evil",
    "USER": "ada",
}


def test_commands_get_an_allow_list_and_no_credentials_of_the_worker() -> None:
    passed = passed_to_commands(_WORKER)
    assert passed == {name: _WORKER[name] for name in ("PATH", "LANG", "HTTPS_PROXY", "PIP_INDEX_URL")}


def test_git_gets_the_network_and_the_ssh_agent_alone() -> None:
    assert passed_to_git(_WORKER) == {name: _WORKER[name] for name in ("PATH", "HTTPS_PROXY", "SSH_AUTH_SOCK")}


def test_there_is_always_a_path() -> None:
    assert passed_to_commands({})["PATH"]
    assert passed_to_git({})["PATH"]


def test_pip_finds_the_settings_and_the_cache_of_the_workers_user(tmp_path: Path) -> None:
    settings = tmp_path / ".config" / "pip" / "pip.conf"
    settings.parent.mkdir(parents=True)
    settings.write_text("[global]\n")
    passed = passed_to_commands({"HOME": str(tmp_path)})
    assert passed["PIP_CONFIG_FILE"] == str(settings)
    assert passed["PIP_CACHE_DIR"] == str(tmp_path / ".cache" / "pip")
    assert "HOME" not in passed
    own = {"HOME": str(tmp_path), "PIP_CACHE_DIR": "/cache", "PIP_CONFIG_FILE": "/dev/null"}
    assert passed_to_commands(own)["PIP_CACHE_DIR"] == "/cache"
    assert passed_to_commands(own)["PIP_CONFIG_FILE"] == "/dev/null"


def test_an_input_is_a_variable_named_by_milestone_and_output() -> None:
    inputs = {"build-all": {"wheel.file": "/x", "ä": "y"}}
    assert variables_of_inputs(inputs) == {
        "OPENAPERTURE_INPUT_BUILD_ALL_WHEEL_FILE": "/x",
        "OPENAPERTURE_INPUT_BUILD_ALL__": "y",
    }


def test_two_inputs_with_the_same_variable_are_refused() -> None:
    with pytest.raises(MilestoneFailed, match="OPENAPERTURE_INPUT_BUILD_A_B"):
        variables_of_inputs({"build": {"a-b": "1", "a_b": "2"}})


def test_secret_settings_are_masked_in_output() -> None:
    masked = Masking(
        {"DEPLOY_TOKEN": "hunter22", "SIGNING_PRIVATE_KEY": "first line\nsecond line", "MODE": "release"}
    )
    assert masked("token hunter22, again hunter22x") == "token ***, again ***x"
    assert masked("second line of a release") == "*** of a release"


def test_a_short_secret_or_none_masks_nothing() -> None:
    assert Masking({"TOKEN": "abc"})("abc") == "abc"
    assert Masking({})("abc") == "abc"


def test_a_secret_that_begins_with_another_is_masked_whole() -> None:
    masked = Masking({"A_TOKEN": "hunter22", "B_TOKEN": "hunter22-and-more"})
    assert masked("hunter22-and-more") == "***"
