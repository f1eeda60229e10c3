"""Settings from the file and the environment: precedence, defaults, refusals, and what is never shown."""

import json
import tomllib
from pathlib import Path

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openaperture.config import Settings, known_keys, load, shown, shown_toml, variable_of
from openaperture.config.values import SecretUrl
from openaperture.domain.errors import ConfigError
from openaperture.domain.milestones import OnLoss, table_of

SECRET = "k9-canary-secret-value"


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def of_file(text: str, **environ: str) -> Settings:
    Path("openaperture.toml").write_text(text, encoding="utf-8")
    return load(environ=environ)


def problems_of(text: str = "", **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        of_file(text, **environ)
    return raised.value.problems


def problem_of(text: str = "", **environ: str) -> str:
    (problem,) = problems_of(text, **environ)
    return problem


# ----------------------------------------------------------------------------------------- defaults


def test_without_a_file_everything_is_embedded_in_the_current_folder(in_empty_folder: Path) -> None:
    settings = load(environ={})
    assert settings.broker == "embedded"
    assert settings.data_dir == in_empty_folder / ".openaperture"
    assert settings.database == f"sqlite:///{in_empty_folder}/.openaperture/openaperture.db"
    assert settings.queue_name == "workflow_orchestration"
    assert settings.worker.local_repositories == ("/",)
    assert settings.worker.work_dir == in_empty_folder / ".openaperture" / "work"
    assert settings.warnings() == []


def test_private_networks_are_networks() -> None:
    settings = of_file('[worker]\nprivate_networks = ["10.0.0.0/8", "fd00::/8"]')
    assert settings.worker.private_networks == ("10.0.0.0/8", "fd00::/8")
    assert 'write networks such as ["10.0.0.0/8"' in problem_of('[worker]\nprivate_networks = ["10.0.0.1/8"]')


def test_folders_and_the_database_follow_the_data_folder(in_empty_folder: Path) -> None:
    settings = of_file('data_dir = "state"\n[worker]\nartifacts_dir = "/srv/artifacts"')
    assert settings.database == f"sqlite:///{in_empty_folder}/state/openaperture.db"
    assert settings.worker.work_dir == in_empty_folder / "state" / "work"
    assert settings.worker.artifacts_dir == Path("/srv/artifacts")


def test_a_worker_of_a_shared_broker_takes_no_local_repositories_by_itself() -> None:
    assert of_file('broker = "amqp://localhost"').worker.local_repositories == ()
    permitted = of_file('broker = "amqp://localhost"\nworker.local_repositories = ["/srv/git"]')
    assert permitted.worker.local_repositories == ("/srv/git",)


def test_a_worker_serves_the_queues_of_every_kind_unless_told_which() -> None:
    assert of_file('[milestones.smoke]\nqueue = "smokers"').worker.queues == (
        "builder",
        "deploy_oa",
        "deployer",
        "smokers",
    )
    assert of_file('worker.queues = ["deployer"]\n[milestones.smoke]').worker.queues == ("deployer",)


# --------------------------------------------------------------------------------------- precedence


def test_our_variable_beats_the_plain_one_which_beats_the_file() -> None:
    file = 'queue_name = "from_file"'
    assert of_file(file).queue_name == "from_file"
    assert of_file(file, QUEUE_NAME="plain").queue_name == "plain"
    assert of_file(file, QUEUE_NAME="plain", OPENAPERTURE_QUEUE_NAME="ours").queue_name == "ours"


def test_the_plain_variables_of_the_original_are_all_read() -> None:
    settings = load(
        environ={
            "EXCHANGE_ID": "1",
            "BROKER_ID": "2",
            "MANAGER_URL": "https://manager.example.org/",
            "OAUTH_LOGIN_URL": "https://login.example.org",
            "OAUTH_CLIENT_ID": "orchestrator",
            "OAUTH_CLIENT_SECRET": SECRET,
            "QUEUE_NAME": "q",
            "UI_URL": "https://ui.example.org",
            "HOSTNAME": "node-7",
        }
    )
    assert (settings.exchange_id, settings.broker_id, settings.hostname) == ("1", "2", "node-7")
    assert settings.manager_url == "https://manager.example.org"
    assert settings.oauth_client_secret is not None
    assert settings.oauth_client_secret.get_secret_value() == SECRET


def test_an_empty_variable_is_no_value() -> None:
    assert of_file("exchange_id = 4", EXCHANGE_ID="", OPENAPERTURE_EXCHANGE_ID="").exchange_id == "4"


def test_two_underscores_name_a_setting_in_a_section() -> None:
    settings = load(
        environ={
            "OPENAPERTURE_WORKER__SLOTS": "7",
            "OPENAPERTURE_WORKER__QUEUES": "builder, deployer",
            "OPENAPERTURE_WORKER__ENVIRONMENT__Deploy__Target": "/srv",
            "OPENAPERTURE_MILESTONES__SMOKE__QUEUE": "smokers",
            "OPENAPERTURE_DECLARE_QUEUES": "no",
        }
    )
    assert settings.worker.slots == 7
    assert settings.worker.queues == ("builder", "deployer")
    assert settings.worker.environment == {"Deploy__Target": "/srv"}
    assert [kind.name for kind in settings.milestones] == ["smoke"]
    assert settings.declare_queues is False


def test_a_list_in_a_variable_may_be_json() -> None:
    assert load(environ={"OPENAPERTURE_WORKER__QUEUES": '["a,b", "c"]'}).worker.queues == ("a,b", "c")


def test_the_named_file_is_read_and_the_argument_beats_the_variable(in_empty_folder: Path) -> None:
    first, second = in_empty_folder / "first.toml", in_empty_folder / "second.toml"
    first.write_text('queue_name = "first"', encoding="utf-8")
    second.write_text('queue_name = "second"', encoding="utf-8")
    environ = {"OPENAPERTURE_CONFIG": str(first)}
    assert load(environ=environ).queue_name == "first"
    assert load(second, environ).queue_name == "second"


def test_variables_that_a_worker_gives_its_commands_are_no_settings() -> None:
    load(
        environ={
            "OPENAPERTURE_WORKFLOW_ID": "41f",
            "OPENAPERTURE_INPUT_BUILD_WHEEL": "x",
            "OPENAPERTURE_DEBUG": "1",
        }
    )


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("90", 90), ("0.25", 0.25), ('"90s"', 90), ('"10m"', 600), ('"1.5h"', 5400), ('"2d"', 172_800)],
)
def test_durations_are_seconds_or_have_a_unit(written: str, seconds: float) -> None:
    assert of_file(f"orchestrator.grace_seconds = {written}").orchestrator.grace_seconds == seconds


# --------------------------------------------------------------------------------------- milestones


def test_a_section_overrides_only_what_it_names_of_a_built_in_kind() -> None:
    (kind,) = of_file('[milestones.deploy]\nrun_seconds = "20m"').milestones
    assert (kind.run_seconds, kind.on_loss, kind.queue) == (1200.0, OnLoss.HOLD, "deployer")
    assert table_of([kind])["deploy"] is kind


def test_a_new_kind_has_a_queue_of_its_own_name() -> None:
    (kind,) = of_file('[milestones.smoke-test]\non_loss = "hold"\nmax_attempts = 1').milestones
    assert (kind.queue, kind.on_loss, kind.max_attempts) == ("smoke-test", OnLoss.HOLD, 1)


@pytest.mark.parametrize("name", ["Smoke", "1st", "a b", "", "a" * 65, "ä"])
def test_a_milestone_name_that_no_message_could_carry_is_refused(name: str) -> None:
    assert "begins with a letter" in problem_of(f"[milestones.{json.dumps(name, ensure_ascii=False)}]")


def test_the_orchestrators_own_milestone_cannot_be_configured() -> None:
    assert "remove the section" in problem_of("[milestones.scheduled]\nmax_attempts = 2")


def test_workers_cannot_share_the_queue_of_the_orchestrators() -> None:
    problem = problem_of('[milestones.smoke]\nqueue = "workflow_orchestration"')
    assert problem.startswith("milestones.smoke.queue")


def test_a_pickup_limit_below_one_pickup_is_refused() -> None:
    assert "pickup_limit_seconds = 5" in problem_of("[milestones.smoke]\npickup_limit_seconds = 5")


# ------------------------------------------------------------------------------------------ refusals


def test_all_problems_are_reported_together_with_their_origin() -> None:
    problems = problems_of(
        'declare_queues = 3\n[worker]\nslots = "many"\n[milestones.smoke]\non_loss = "shrug"',
        OPENAPERTURE_MANAGER__PORT="99999",
        MANAGER_URL="nowhere",
        OPENAPERTURE_DATABASE="postgresql://db/oa",
    )
    assert sorted(problems) == [
        'broker: the embedded broker lives in a SQLite file; with PostgreSQL write broker = "amqps://…" as well',
        "declare_queues = 3 (in openaperture.toml): write true or false",
        (
            'manager.port = "99999" (environment variable OPENAPERTURE_MANAGER__PORT): '
            "write a whole number from 0 to 65535"
        ),
        'manager_url = "nowhere" (environment variable MANAGER_URL): write a url such as "https://host"',
        'milestones.smoke.on_loss = "shrug" (in openaperture.toml): write "retry" or "hold"',
        'worker.slots = "many" (in openaperture.toml): write a whole number from 1 to 256',
    ]


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        ("brokr = 1", 'did you mean "broker"?'),
        ("slots = 1", 'did you mean "worker.slots"?'),
        ("[worker]\nslot = 1", 'did you mean "worker.slots"?'),
        ("[workers]\nslots = 1", 'did you mean "worker"?'),
        ("[milestones.smoke]\nrun_second = 1", 'did you mean "milestones.smoke.run_seconds"?'),
        ("[manager]\ncolour = 1", "known here are host, oidc, port"),
    ],
)
def test_an_unknown_key_is_refused_with_a_suggestion(text: str, suggestion: str) -> None:
    problem = problem_of(text)
    assert "is not a setting" in problem
    assert suggestion in problem


def test_an_unknown_variable_of_ours_is_refused_with_a_suggestion() -> None:
    assert "did you mean OPENAPERTURE_WORKER__SLOTS?" in problem_of(OPENAPERTURE_WORKER_SLOTS="2")
    assert "did you mean OPENAPERTURE_WORKER__SLOTS?" in problem_of(OPENAPERTURE_WORKERS__SLOTS="2")
    assert "OPENAPERTURE_XYZZY (environment variable) is not a setting" in problem_of(OPENAPERTURE_XYZZY="2")


def test_a_variable_cannot_stand_for_a_whole_section() -> None:
    assert "OPENAPERTURE_WORKER names a section" in problem_of(OPENAPERTURE_WORKER="2")


def test_a_problem_is_not_repeated_as_a_clash_that_follows_from_it() -> None:
    problem = problem_of('broker = "carrier-pigeon"\ndatabase = "postgresql://db/oa"')
    assert problem.startswith('broker = "carrier-pigeon"')


def test_a_remote_manager_needs_the_whole_login_and_our_place() -> None:
    problem = problem_of('manager_url = "https://m"\noauth_client_id = "us"')
    assert "write exchange_id, broker_id, oauth_login_url, oauth_client_secret as well" in problem


SHARED = 'broker = "amqps://u:p@mq/v"\ndatabase = "postgresql://u:p@db/oa"\n'


def test_an_exchange_of_ours_makes_requests_go_by_our_own_directory() -> None:
    assert of_file(f'{SHARED}exchange_id = "2"\nbroker_id = "1"').routes_by_own_tables
    assert not of_file(SHARED).routes_by_own_tables
    assert not of_file('exchange_id = "2"').routes_by_own_tables
    problem = problem_of(f'{SHARED}exchange_id = "2"')
    assert problem.startswith('exchange_id = "2"')
    assert "write broker_id" in problem


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('database = "sqlite://"', "database"),
        ('database = "mysql://db/x"', "database"),
        ('broker = "http://host"', "broker"),
        ('broker = "amqp://host:seven"', "broker"),
        ('queue_name = "amq.topic"', "queue_name"),
        ('queue_name = ""', "queue_name"),
        ('hostname = "a\\u001bb"', "hostname"),
        ("orchestrator.batch = true", "orchestrator.batch"),
        ("orchestrator.batch = 0", "orchestrator.batch"),
        ("orchestrator.poll_seconds = 0", "orchestrator.poll_seconds"),
        ("orchestrator.poll_seconds = nan", "orchestrator.poll_seconds"),
        (f"orchestrator.poll_seconds = 1{'0' * 400}", "orchestrator.poll_seconds"),
        ('orchestrator.poll_seconds = "ten"', "orchestrator.poll_seconds"),
        ('worker.queues = ["a", 3.5]', "worker.queues"),
        ('worker.local_repositories = ["git"]', "worker.local_repositories"),
        ("worker.environment = {A = 1}", "worker.environment"),
        ('worker.environment = {"A-B" = "1"}', "worker.environment"),
        ("worker = 3", "worker"),
        ("milestones = 3", "milestones"),
        ("milestones.smoke = 3", "milestones.smoke"),
        ("token_key = 'short'", "token_key"),
        ("data_dir = 1979-05-27", "data_dir"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_its_key(text: str, key: str) -> None:
    problem = problem_of(text)
    assert problem.startswith((f"{key} = ", f"{key} ("))
    assert "write" in problem


@pytest.mark.parametrize("content", [b"broker =", b"\xff\xfe", b"a = [" + b"[" * 5000])
def test_a_file_that_is_no_toml_is_one_clear_problem(content: bytes) -> None:
    Path("openaperture.toml").write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        load(environ={})
    assert len(raised.value.problems) == 1
    assert raised.value.problems[0].startswith("openaperture.toml is not")


def test_a_named_file_must_exist_and_be_a_file(in_empty_folder: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load(in_empty_folder / "missing.toml", {})
    with pytest.raises(ConfigError, match="cannot be read"):
        load(in_empty_folder, {})


WORDS = st.sampled_from([part for key in known_keys() for part in key]) | st.text(max_size=8)
VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.dates() | st.text(max_size=12) | st.just("10m"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)
VARIABLES = st.lists(WORDS, min_size=1, max_size=3).map(lambda parts: "OPENAPERTURE_" + "__".join(parts).upper())


def toml(value: object) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{toml(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
        case list():
            return f"[{', '.join(toml(inner) for inner in value)}]"
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case bool():
            return str(value).lower()
        case _:
            return str(value)


@hypothesis.settings(deadline=None)
@given(table=st.dictionaries(WORDS, VALUES, max_size=5), environ=st.dictionaries(VARIABLES, st.text(max_size=8)))
def test_whatever_is_written_gives_settings_or_problems(table: dict[str, object], environ: dict[str, str]) -> None:
    Path("openaperture.toml").write_text(
        "".join(f"{toml(key)} = {toml(value)}\n" for key, value in table.items()), encoding="utf-8"
    )
    said: list[str] = []
    try:
        said.append(shown_toml(load(environ=environ)))
        tomllib.loads(said[0])
    except ConfigError as error:
        said += error.problems
    assert all(line.isprintable() for text in said for line in text.splitlines())
    assert said


def test_problems_hold_no_character_that_steers_a_terminal() -> None:
    text = problem_of('"a\\u001b[2J" = 1') + problem_of(OPENAPERTURE_UI_URL="http://\udcff\x9b")
    assert text.isprintable()


# ------------------------------------------------------------------------------------------- secrets


SECRETIVE = {
    "OPENAPERTURE_BROKER": f"amqps://oa:{SECRET}@rabbit.example.org/x?ssl_options={SECRET}",
    "OPENAPERTURE_DATABASE": f"postgresql://oa:{SECRET}@db.example.org/oa?sslpassword={SECRET}",
    "OPENAPERTURE_TOKEN_KEY": SECRET,
    "OPENAPERTURE_WORKER__ENVIRONMENT__NPM_AUTH": SECRET,
    "OPENAPERTURE_UI_URL": f"https://user:{SECRET}@ui.example.org",
    "EXCHANGE_ID": "1",
    "BROKER_ID": "1",
    "MANAGER_URL": f"https://user:{SECRET}@m.example.org",
    "OAUTH_LOGIN_URL": "https://login.example.org",
    "OAUTH_CLIENT_ID": "us",
    "OAUTH_CLIENT_SECRET": SECRET,
}


def test_no_secret_appears_in_what_is_shown_or_in_a_repr() -> None:
    settings = load(environ=SECRETIVE)
    assert settings.broker == SECRETIVE["OPENAPERTURE_BROKER"]
    for text in (repr(settings), str(settings), repr(shown(settings)), shown_toml(settings), *settings.warnings()):
        assert SECRET not in text
    assert shown(settings)["broker"] == "amqps://oa:********@rabbit.example.org/x?********"
    assert shown(settings)["worker"]["environment"] == {"NPM_AUTH": "********"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BROKER", f"amqp://oa:{SECRET}@host:port/x"),
        ("BROKER", f"http://oa:{SECRET}@host"),
        ("DATABASE", f"mysql://oa:{SECRET}@host/x"),
        ("DATABASE", f"postgresql://host:x/db?password={SECRET}"),
        ("MANAGER_URL", f"ftp://oa:{SECRET}@host"),
        ("TOKEN_KEY", f"{SECRET}\n"[-6:] + "\udcff"),
        ("TOKEN_KEYS", SECRET),
        ("WORKER__ENVIRONMENT__A-B", SECRET),
    ],
)
def test_no_secret_appears_in_a_problem(name: str, value: str) -> None:
    (problem,) = problems_of(**{f"OPENAPERTURE_{name}": value})
    assert SECRET[-5:] not in problem


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("embedded", "embedded"),
        ("sqlite:////srv/oa.db", "sqlite:////srv/oa.db"),
        ("amqp://host:5672/x", "amqp://host:5672/x"),
        ("amqp://oa@host", "amqp://oa@host"),
        ("amqp://oa:a@b:c@host", "amqp://oa:********@host"),
        ("amqp://:pw@host", "amqp://:********@host"),
        ("amqp://oa:5/pw@host", "amqp://oa:5********"),
        ("amqp://oa:5#pw@host", "amqp://oa:5"),
    ],
)
def test_a_url_is_masked_wherever_its_password_stands(url: str, masked: str) -> None:
    assert SecretUrl(url).masked() == masked
    assert repr(SecretUrl(url)) == repr(masked)


def test_what_is_shown_is_toml_that_gives_the_same_settings() -> None:
    settings = of_file(
        'worker.slots = 3\n[milestones.smoke]\nrun_seconds = 5\n[milestones.deploy]\non_loss = "retry"'
    )
    text = shown_toml(settings)
    assert shown(of_file(text)) == shown(settings)
    assert tomllib.loads(text)["milestones"]["smoke"]["run_seconds"] == 5


# ------------------------------------------------------------------------------------------ warnings


@pytest.mark.parametrize(
    ("broker", "warned_of"),
    [
        ("amqp://oa:pw@127.0.0.1/x", []),
        ("amqp://[::1]", []),
        ("amqp://localhost", []),
        ("amqps://oa:pw@rabbit.example.org", []),
        ("amqp://oa:pw@rabbit.example.org", ["without encryption"]),
        ("amqps://rabbit.example.org", ["guest"]),
        ("amqp://guest:guest@10.0.0.7", ["without encryption", "guest"]),
    ],
)
def test_an_unsafe_broker_is_warned_of(broker: str, warned_of: list[str]) -> None:
    warnings = load(environ={"OPENAPERTURE_BROKER": broker}).warnings()
    assert len(warnings) == len(warned_of)
    assert all(part in warning for part, warning in zip(warned_of, warnings, strict=True))


def test_an_api_beyond_this_machine_is_warned_of() -> None:
    (warning,) = of_file('manager.host = "0.0.0.0"').warnings()
    assert "manager.host" in warning


def test_every_key_has_a_variable_that_sets_it() -> None:
    keys = [key for key in known_keys() if "NAME" not in key and key != ("worker", "environment")]
    assert len(keys) > 20
    for key in keys:
        (problem,) = problems_of(**{variable_of(key): "\udcff"})
        assert problem.startswith(".".join(key))
