"""Whether what a workflow asks for can be worked off: judged when it is stored, with a word on how to write it."""

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches

from openaperture.client.models import Problem
from openaperture.domain.errors import BadInput
from openaperture.domain.milestones import MilestoneKind
from openaperture.domain.releases import Release, members_of


class BadPlan(BadInput):
    """Milestones that cannot be run; `problems` lists all of them by field."""

    def __init__(self, problems: list[Problem], text: str) -> None:
        super().__init__(f"the request cannot be used: {text}")
        self.problems = problems


def check_plan(release: Release, kinds: Mapping[str, MilestoneKind]) -> None:
    """Raise BadPlan for milestones that no configuration knows, and for what refers to none of them."""
    unknown = list(_unknown(release, kinds))
    others = [*_twice(release), *_astray(release)]
    if unknown or others:
        texts = [f"{problem.field}: {problem.message}" for problem in (*unknown, *others)]
        if unknown:
            # Once for all of them, however many they are.
            known = ", ".join(sorted(kinds))
            texts.append(f"known are {known}, and the configuration can define others as [milestones.NAME].")
        raise BadPlan([*unknown, *others], "; ".join(texts))


def _unknown(release: Release, kinds: Mapping[str, MilestoneKind]) -> Iterable[Problem]:
    for field, entries in (("milestones", release.milestones), ("on_failure", release.on_failure)):
        for at, entry in enumerate(entries):
            for name in members_of(entry):
                if name not in kinds:
                    yield Problem(field=f"{field}.{at}", message=_unknown_text(name, kinds))


def _unknown_text(name: str, kinds: Collection[str]) -> str:
    near = get_close_matches(name, kinds, n=1)
    hint = f' (did you mean "{near[0]}"?)' if near else ""
    return f'milestone "{name}" is not known{hint}'


def _twice(release: Release) -> Iterable[Problem]:
    for at, entry in enumerate(release.milestones):
        names = members_of(entry)
        if len(set(names)) < len(names):
            yield Problem(field=f"milestones.{at}", message="names a milestone twice in one group")


def _astray(release: Release) -> Iterable[Problem]:
    if release.locks_from is not None and release.position_of(release.locks_from) is None:
        yield Problem(field="locks_from", message=_none_of(release.locks_from, release.flat))
    elif release.locks_from is not None and not release.locks:
        yield Problem(
            field="locks_from", message="says when locks are taken, and none are named; add them to locks"
        )
    for name in release.milestone_options:
        if name not in {*release.flat, *release.on_failure}:
            message = _none_of(name, [*release.flat, *release.on_failure])
            yield Problem(field=f"milestone_options.{name[:64]}", message=message)


def _none_of(name: str, known: Collection[str]) -> str:
    return f'"{name}" is none of its milestones, which are {", ".join(known) or "none"}'
