"""openaperture.json: what is taken, and what a person is told about the rest."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openaperture.domain.errors import BadManifest
from openaperture.domain.milestones import OnLoss
from openaperture.worker.command.manifest import MAX_BYTES, missing_file, read_manifest


def _problems(fields: Any) -> list[str]:
    with pytest.raises(BadManifest) as caught:
        read_manifest(json.dumps(fields).encode())
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def _milestone(**fields: Any) -> dict[str, Any]:
    return {"milestones": {"build": {"run": ["make"], **fields}}}


def test_everything_that_can_be_declared_is_read() -> None:
    fields = {
        "$schema": "https://example.com/openaperture.schema.json",
        "milestones": {
            "build": {
                "run": ["make", ["cp", "a b", "c"]],
                "timeout": "10m",
                "environment": {"MODE": "release"},
                "outputs": {"wheel": {"file": "dist/*.whl"}, "version": {"text": "version.txt"}},
                "on_loss": "hold",
            },
            "deploy_oa": {"run": ["true"]},
        },
        "deployments": {"notifications": {"hipchat": {"room_names": ["ops"]}, "anything": [1, None]}},
    }
    manifest = read_manifest(json.dumps(fields).encode())
    build = manifest.milestone("build")
    assert build.run == ["make", ["cp", "a b", "c"]]
    assert build.timeout_seconds == 600
    assert build.on_loss is OnLoss.HOLD
    assert build.outputs["wheel"].file == "dist/*.whl"
    assert build.outputs["version"].text == "version.txt"
    assert manifest.milestone("deploy_oa").timeout_seconds is None
    assert manifest.deployments.notifications == {"hipchat": {"room_names": ["ops"]}, "anything": [1, None]}


def test_a_file_of_the_original_stays_valid() -> None:
    notifications = {
        "hipchat": {"room_names": ["ops"]},
        "email": {"groups": {"team": ["a@example.com"]}, "events": {"on_workflow_completed": ["team"]}},
    }
    manifest = read_manifest(json.dumps({"deployments": {"notifications": notifications}}).encode())
    assert manifest.deployments.notifications == notifications


@pytest.mark.parametrize(
    ("timeout", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7_200), (90, 90), (0.5, 0.5), ("168h", 604_800)]
)
def test_a_timeout_has_a_unit_or_is_seconds(timeout: str | float, seconds: float) -> None:
    manifest = read_manifest(json.dumps(_milestone(timeout=timeout)).encode())
    assert manifest.milestone("build").timeout_seconds == seconds


@pytest.mark.parametrize(
    "timeout", ["10", "m", "1d", "0s", "-5s", " 5s", "5s\n", 0, -1, 604_801, True, None, "169h", []]
)
def test_any_other_timeout_is_refused(timeout: Any) -> None:
    (problem,) = _problems(_milestone(timeout=timeout))
    assert problem.startswith("milestones.build")
    assert "7 days" in problem


def test_a_misspelt_key_is_named_with_its_place_and_the_right_one() -> None:
    assert _problems(_milestone(timout="5m")) == ['milestones.build.timout: unknown; did you mean "timeout"?']
    assert _problems({"milestone": {}}) == ['milestone: unknown; did you mean "milestones"?']
    assert _problems({"deployments": {"notification": {}}}) == [
        'deployments.notification: unknown; did you mean "notifications"?'
    ]
    assert _problems(_milestone(outputs={"a": {"fil": "x"}}))[0].startswith(
        'milestones.build.outputs.a.fil: unknown; did you mean "file"?'
    )
    assert _problems(_milestone(zzz=1)) == [
        "milestones.build.zzz: unknown; known are run, timeout, environment, outputs, on_loss"
    ]


def test_all_problems_are_reported_together() -> None:
    fields = {
        "milestones": {
            "build": {"run": [], "timeout": "soon", "enviroment": {}},
            "deploy": {"outputs": {"a": {}, "b": {"file": "../x"}, "c d": {"file": "x"}}, "on_loss": "pray"},
            "test": "make test",
        },
        "deployments": [],
    }
    problems = _problems(fields)
    assert [problem.split(":")[0] for problem in problems] == [
        "milestones.build.run",
        "milestones.build.timeout",
        "milestones.build.enviroment",
        "milestones.deploy.outputs.a",
        "milestones.deploy.outputs.b.file",
        "milestones.deploy.outputs.c d",
        "milestones.deploy.on_loss",
        "milestones.deploy.run",
        "milestones.test",
        "deployments",
    ]


@pytest.mark.parametrize(
    "fields",
    [
        _milestone(run="make"),
        _milestone(run=[[]]),
        _milestone(run=[""]),
        _milestone(run=[1]),
        _milestone(run=[["make", 1]]),
        _milestone(run=["make"] * 101),
        _milestone(environment={"A": 1}),
        _milestone(environment={"A-B": "x"}),
        _milestone(environment={"OPENAPERTURE_COMMIT": "x"}),
        _milestone(environment=["A=1"]),
        _milestone(outputs={"a": {"file": "x", "text": "y"}}),
        _milestone(outputs={"a": "x"}),
        _milestone(outputs={"a": {"file": "/etc/passwd"}}),
        _milestone(outputs={"a": {"text": "../../etc/passwd"}}),
        _milestone(outputs={"a": {"text": "a/../../b"}}),
        _milestone(outputs={"a": {"text": ""}}),
        _milestone(outputs={"a": {"text": None}}),
        _milestone(outputs={f"o{number}": {"text": "a"} for number in range(65)}),
        _milestone(on_loss="RETRY"),
        {"milestones": {"": {"run": ["x"]}}},
        {"milestones": {"-a": {"run": ["x"]}}},
        {"milestones": {"a" * 65: {"run": ["x"]}}},
        {"milestones": []},
        {"milestones": None},
        {"deployments": {"notifications": []}},
        {"$schema": 1},
        [],
        "milestones",
        None,
    ],
)
def test_what_cannot_be_meant_is_refused(fields: Any) -> None:
    assert _problems(fields)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"{'milestones': {}}", "not JSON"),
        (b'{"milestones": {}, "milestones": {}}', "twice"),
        (b'{"milestones": NaN}', "NaN"),
        (b"\xff{}", "UTF-8"),
        (b"[" * 100_000, "deeper"),
        (b'{"a": "' + b"x" * MAX_BYTES + b'"}', "bytes"),
        (b'{"a": "\\u0000"}', "NUL"),
    ],
)
def test_a_file_that_is_no_strict_json_is_refused_by_name(body: bytes, words: str) -> None:
    with pytest.raises(BadManifest, match=words) as caught:
        read_manifest(body)
    assert "openaperture.json" in str(caught.value)
    assert "the message" not in str(caught.value)


def test_a_milestone_that_is_not_declared_says_what_to_write() -> None:
    manifest = read_manifest(json.dumps(_milestone()).encode())
    with pytest.raises(BadManifest) as caught:
        manifest.milestone("deploy")
    for error in (caught.value, missing_file("deploy")):
        example = str(error).split("Write for example: ")[1]
        assert read_manifest(example.encode()).milestone("deploy").run


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["milestones", "run", "outputs", "file", "timeout", "a"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@given(_JSON)
def test_any_json_is_read_or_refused_with_a_sentence(value: Any) -> None:
    for fields in (value, {"milestones": value}, {"milestones": {"a": value}}):
        try:
            manifest = read_manifest(json.dumps(fields).encode())
        except BadManifest as exc:
            told = str(exc)
        else:
            told = "openaperture.json was read"
            assert all(milestone.run for milestone in manifest.milestones.values())
        assert "openaperture.json" in told
