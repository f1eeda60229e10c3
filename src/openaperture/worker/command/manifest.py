"""`openaperture.json`: what a repository declares for its milestones. The types here are the published schema.

A person fixes this file by reading our errors, so all problems are reported together, each with its place.
"""

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any, cast

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from openaperture.codecs import json as json_codec
from openaperture.domain.errors import BadManifest, BadMessage
from openaperture.domain.milestones import OnLoss

FILE_NAME = "openaperture.json"
MAX_BYTES = 262_144
MAX_TIMEOUT_SECONDS = 7 * 86_400

_END = r"$(?!\n)"
"""In Python, `$` alone lets a last newline pass."""
_NAME = rf"^[A-Za-z][A-Za-z0-9_-]{{0,63}}{_END}"
_INSIDE = rf"^(?!/)(?!(.*/)?\.\.(/|$)).+{_END}"
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600}

MilestoneName = Annotated[str, Meta(pattern=_NAME, description="Name of the milestone, as workflows list it.")]
OutputName = Annotated[str, Meta(pattern=_NAME)]
VariableName = Annotated[str, Meta(pattern=rf"^(?!OPENAPERTURE_)[A-Za-z_][A-Za-z0-9_]{{0,127}}{_END}")]
Shell = Annotated[str, Meta(min_length=1, max_length=65_536, description="Run by `sh -eu -c`.")]
Argv = Annotated[
    list[Annotated[str, Meta(max_length=65_536)]],
    Meta(min_length=1, max_length=1_000, description="A program and its arguments, run without a shell."),
]
PathInside = Annotated[str, Meta(pattern=_INSIDE, max_length=1_024)]


class Output(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """One thing that a milestone leaves for the later ones: a file, or the text in a file."""

    file: (
        Annotated[PathInside, Meta(description="Glob that exactly one file matches. It is kept as an artifact.")]
        | UnsetType
    ) = UNSET
    text: (
        Annotated[
            PathInside, Meta(description="UTF-8 file of at most 4,096 characters; its content is the output.")
        ]
        | UnsetType
    ) = UNSET

    def __post_init__(self) -> None:
        if (self.file is UNSET) == (self.text is UNSET):
            raise ValueError('write either {"file": "dist/*.whl"} or {"text": "version.txt"}')


class Milestone(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """How one milestone of this repository is done."""

    run: Annotated[
        list[Shell | Argv],
        Meta(
            min_length=1, max_length=100, description="Commands, one after the other, in the checked-out folder."
        ),
    ]
    timeout: Annotated[
        Annotated[str, Meta(pattern=rf"^[1-9][0-9]{{0,6}}(s|m|h){_END}")]
        | Annotated[int, Meta(gt=0, le=MAX_TIMEOUT_SECONDS)]
        | Annotated[float, Meta(gt=0, le=MAX_TIMEOUT_SECONDS)]
        | UnsetType,
        Meta(description='For all commands together: "90s", "10m", "2h" or a number of seconds. At most 7 days.'),
    ] = UNSET
    environment: Annotated[
        dict[VariableName, Annotated[str, Meta(max_length=65_536)]],
        Meta(max_length=200, description="Variables for the commands. Those of the worker's settings win."),
    ] = msgspec.field(default_factory=dict[str, str])
    outputs: Annotated[
        dict[
            OutputName,
            Annotated[Output, Meta(extra_json_schema={"oneOf": [{"required": ["file"]}, {"required": ["text"]}]})],
        ],
        Meta(max_length=64, description="What the milestone leaves for the later ones."),
    ] = msgspec.field(default_factory=dict[str, Output])
    on_loss: Annotated[
        OnLoss | UnsetType,
        Meta(description="When the worker vanishes while it runs: `retry` elsewhere, or `hold` and ask a person."),
    ] = UNSET

    def __post_init__(self) -> None:
        if (seconds := self.timeout_seconds) is not None and seconds > MAX_TIMEOUT_SECONDS:
            raise ValueError("a timeout is at most 7 days (168h)")

    @property
    def timeout_seconds(self) -> float | None:
        if isinstance(self.timeout, UnsetType):
            return None
        if isinstance(self.timeout, str):
            return float(int(self.timeout[:-1]) * _UNIT_SECONDS[self.timeout[-1]])
        return float(self.timeout)


class Deployments(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The section that the original OpenAperture reads."""

    notifications: Annotated[
        dict[str, Any],
        Meta(
            description="Whom to tell. Passed on unchanged; known are hipchat.room_names, email.groups and "
            "email.events.on_workflow_completed."
        ),
    ] = msgspec.field(default_factory=dict[str, Any])


class Manifest(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    milestones: Annotated[dict[MilestoneName, Milestone], Meta(max_length=100)] = msgspec.field(
        default_factory=dict[str, Milestone]
    )
    deployments: Deployments = msgspec.field(default_factory=Deployments)
    schema_address: Annotated[str, Meta(description="Address of this schema, for editors.")] | UnsetType = (
        msgspec.field(default=UNSET, name="$schema")
    )

    def milestone(self, name: str) -> Milestone:
        """Raises BadManifest that says what to write."""
        if (found := self.milestones.get(name)) is None:
            raise BadManifest(
                f'{FILE_NAME} does not declare the milestone "{name}" (it declares '
                f"{', '.join(sorted(self.milestones)) or 'none'}). {_what_to_write(name)}"
            )
        return found


def missing_file(name: str) -> BadManifest:
    """The error for a repository without the file, asked for the milestone `name`."""
    return BadManifest(f"the repository has no file {FILE_NAME} at its root. {_what_to_write(name)}")


def read_manifest(body: bytes) -> Manifest:
    """Raises BadManifest, which lists every problem."""
    if len(body) > MAX_BYTES:
        raise BadManifest(f"{FILE_NAME} has {len(body)} bytes; at most {MAX_BYTES} are read")
    try:
        fields = json_codec.parse(body)
    except BadMessage as exc:
        raise BadManifest(f"{FILE_NAME} cannot be read: {str(exc).replace('the message', 'the file')}") from exc
    problems: list[str] = []
    _check(fields, Manifest, "", problems)
    if problems:
        raise BadManifest("\n".join([f"{FILE_NAME} has {_count(problems)}:", *(f"  {line}" for line in problems)]))
    try:
        return msgspec.convert(fields, Manifest)
    except msgspec.ValidationError as exc:
        raise BadManifest(f"{FILE_NAME} cannot be used: {exc}") from exc


def _what_to_write(name: str) -> str:
    return f'Write for example: {{"milestones": {{"{name}": {{"run": ["make {name}"], "timeout": "10m"}}}}}}'


def _count(problems: list[str]) -> str:
    return "1 problem" if len(problems) == 1 else f"{len(problems)} problems"


# ------------------------------------------------------------------------- all problems, with places

_OBJECTS: Mapping[str, type[Struct]] = {"deployments": Deployments}
"""Fields that hold one object of a type of ours."""
_TABLES: Mapping[str, type[Struct]] = {"milestones": Milestone, "outputs": Output}
"""Fields that hold objects of a type of ours by name."""
_HINTS = {
    "milestones": "a name has letters, digits, - and _, and starts with a letter",
    "outputs": 'write for example {"wheel": {"file": "dist/*.whl"}}',
    "run": 'write a list of commands, each a text for the shell or a list of texts: ["make", ["cp", "a", "b"]]',
    "timeout": 'write "90s", "10m", "2h" or a number of seconds, at most 7 days',
    "environment": "write texts by name; names have letters, digits and _, and do not begin with OPENAPERTURE_",
    "on_loss": 'write "retry" or "hold"',
    "file": "write a path inside the repository, without ..",
    "text": "write a path inside the repository, without ..",
    "deployments": 'write {"notifications": {…}}',
    "notifications": "write an object",
}


def _check(value: Any, wanted: type[Struct], path: str, problems: list[str]) -> None:
    """Collect what keeps `value` from being a `wanted`."""
    if not isinstance(value, dict):
        problems.append(f"{path or 'the file'}: must be an object")
        return
    found = cast("dict[str, Any]", value)
    known = {field.encode_name: field for field in msgspec.structs.fields(wanted)}
    before = len(problems)
    for key, item in found.items():
        place = f"{path}.{key}" if path else key
        if key not in known:
            problems.append(f"{place}: unknown{_suggestion(key, list(known))}")
        elif key in _OBJECTS:
            _check(item, _OBJECTS[key], place, problems)
        elif key in _TABLES and isinstance(item, dict):
            _check_table(cast("dict[str, Any]", item), _TABLES[key], place, problems, hint=_HINTS[key])
        else:
            _check_value(item, known[key].type, place, problems, hint=_HINTS.get(key))
    missing = [name for name, field in known.items() if field.required and name not in found]
    problems.extend(f"{path}.{name}: missing; {_HINTS[name]}" for name in missing)
    if len(problems) == before:
        _check_value(found, wanted, path, problems, hint=None)


def _check_table(
    items: dict[str, Any], wanted: type[Struct], path: str, problems: list[str], *, hint: str
) -> None:
    for name, item in items.items():
        if not re.match(_NAME, name):
            problems.append(f"{path}.{ascii(name)[1:-1][:80]}: not a name; {hint}")
        else:
            _check(item, wanted, f"{path}.{name}", problems)


def _check_value(value: Any, wanted: Any, path: str, problems: list[str], *, hint: str | None) -> None:
    try:
        msgspec.convert(value, wanted)
    except msgspec.ValidationError as exc:
        words, _, inner = str(exc).partition(" - at `")
        place = path + inner.rstrip("`").removeprefix("key in ").removeprefix("$")
        problems.append(f"{place or 'the file'}: {hint or words[:1].lower() + words[1:]}")


def _suggestion(key: str, known: list[str]) -> str:
    if close := difflib.get_close_matches(key, known, n=1):
        return f'; did you mean "{close[0]}"?'
    return f"; known are {', '.join(known)}"
