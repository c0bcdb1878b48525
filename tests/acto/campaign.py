"""The campaign: walks of MCPProxies from one mutation to the next, and what must hold at each step.

The oracles are those of Acto (SOSP '23): what is asked for shows or is refused; the way to a spec
doesn't show; a bad spec leaves nothing behind once it is gone.

What the pods mount counts as a child: whether the runtime heeds it is for tests/fields to say.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import httpx2

from mcpproxy import desired
from mcpproxy.api import manifest
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.api.manifest_errors import ManifestError
from tests.acto.mutations import Mutation, Path, Spec
from tests.acto.world import VERBS, World
from tests.support.builders import OPTIONS, OWNER, a_manifest

OPERATOR_NAMESPACE: Final = "mcpproxy-system"
AT_ONCE: Final = 8
"""Walks under way at the same time."""
STEPS: Final = 24
"""Mutations of one walk."""
_IN_CLUSTER: Final = replace(OPTIONS, operator_namespace=OPERATOR_NAMESPACE)
_UNTYPED: Final = "failed to create typed patch object ("
_HOME: Final = 4
"""After so many good steps a walk goes back to the spec that it began with."""

Verdict = Literal["refused", "reflected", "conditioned"]


@dataclass
class Findings:
    """Outcomes of the mutations, and forbidden outcomes."""

    verdicts: Counter[Verdict] = field(default_factory=Counter)
    fields: dict[str, set[Verdict]] = field(default_factory=dict)
    problems: Counter[str] = field(default_factory=Counter)
    """Conditions that stood against a spec."""
    returns: int = 0
    """Number of times that a walk was back at its good spec."""
    unnamed: list[str] = field(default_factory=list)
    """Refusals and conditions that don't name the field."""
    not_reflected: list[str] = field(default_factory=list)
    by_the_way: list[str] = field(default_factory=list)
    """Children that differ from those of a proxy which had this spec from the start."""
    not_back: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)

    def note(self, mutation: Mutation, verdict: Verdict) -> None:
        """One mutation was judged."""
        self.verdicts[verdict] += 1
        self.fields.setdefault(mutation.field, set()).add(verdict)


@dataclass(frozen=True, slots=True)
class Picture:
    """State of the world at one moment."""

    spec: Spec
    children: str
    rendering: str
    conditions: Mapping[str, tuple[str, str, str]]
    """Type → status, reason and message."""

    @property
    def problem(self) -> str | None:
        """Return the contradiction between the conditions and the spec; None if there is none."""
        for type_ in ("Accepted", "Stalled", "Suspended"):
            status, reason, message = self.conditions.get(type_, ("", "", ""))
            if status == ("False" if type_ == "Accepted" else "True"):
                return f"{type_} {reason}: {message}"
        return None


async def campaign(world: World, bases: Mapping[str, Spec], chosen: Sequence[Mutation]) -> Findings:
    """Walk all of `chosen`."""
    findings, gate = Findings(), asyncio.Semaphore(AT_ONCE)

    async def walk_all(number: int, base: str, verb: str, steps: list[Mutation]) -> None:
        async with gate:
            walk = Walk(world, f"acto-w{number:03}", verb, findings)
            try:
                await walk.go(bases[base], steps)
            except TimeoutError:
                findings.stuck.append(f"{walk.namespace} {verb} {walk.at}")

    async with asyncio.TaskGroup() as group:
        for number, (base, verb, steps) in enumerate(_walks(chosen)):
            group.create_task(walk_all(number, base, verb, steps))
    return findings


def _walks(chosen: Sequence[Mutation]) -> Iterator[tuple[str, str, list[Mutation]]]:
    for base in dict.fromkeys(item.base for item in chosen):
        every = [entry for entry in chosen if entry.base == base]
        for number, verb in enumerate(VERBS):
            mine = every[number :: len(VERBS)]
            for start in range(0, len(mine), STEPS):
                yield base, verb, mine[start : start + STEPS]


class Walk:
    """One MCPProxy, changed again and again by one verb."""

    def __init__(self, world: World, namespace: str, verb: str, findings: Findings) -> None:
        self.namespace = namespace
        self.at = "the start"
        self._world, self._verb, self._findings = world, verb, findings

    async def go(self, base: Spec, steps: Sequence[Mutation]) -> None:
        """Try all steps, and return to `base` after each bad one, now and then, and at the end."""
        await self._world.enter(self.namespace)
        good = picture = await self._become(base)
        away = 0
        for number, step in enumerate(steps):
            self.at, before = str(step), picture
            answer = await self._world.send(self._verb, self.namespace, step.spec)
            if not answer.is_success:
                self._refused(step, answer)
                continue
            away += 1
            picture = await self._picture(self.namespace, answer.json())
            if picture.problem is not None:
                await self._conditioned(step, picture.problem, before)
            else:
                await self._reflected(
                    step, picture, good, f"acto-n{self.namespace[-3:]}{number:02}"
                )
            if picture.problem is not None or away == _HOME:
                await self._home(good, str(step))
                picture, away = good, 0
        if away:
            await self._home(good, "the last step")

    async def _become(self, spec: Spec) -> Picture:
        answer = await self._world.send(self._verb, self.namespace, spec)
        assert answer.is_success, f"{self.at}: {answer.text}"
        return await self._picture(self.namespace, answer.json())

    async def _picture(self, namespace: str, sent: Object) -> Picture:
        live = await self._world.reported(namespace, sent["metadata"]["generation"])
        result = live["status"]["conditions"]
        return Picture(
            spec=live["spec"],
            children=await self._world.children(namespace, live["spec"]),
            rendering=rendering(live["spec"]),
            conditions={c["type"]: (c["status"], c["reason"], c["message"]) for c in result},
        )

    def _refused(self, step: Mutation, answer: httpx2.Response) -> None:
        self._findings.note(step, "refused")
        message = answer.json()["message"]
        proper = is_refusal(self._verb, answer.status_code, message)
        if not proper or not names_it(message, step.path):
            text = f"{self._verb} {step}: {answer.status_code} {message[:400]}"
            self._findings.unnamed.append(text)

    async def _conditioned(self, step: Mutation, problem: str, before: Picture) -> None:
        self._findings.note(step, "conditioned")
        type_, reason, *_ = problem.split()
        self._findings.problems[f"{type_} {reason}"] += 1
        if type_ != "Suspended" and not names_it(problem, step.path):
            self._findings.unnamed.append(f"{self._verb} {step}: {problem[:400]}")
        # What the API server refuses comes after what it took.
        left_alone = type_ != "Stalled"
        children = await self._world.children(self.namespace, before.spec)
        if left_alone and children != before.children:
            difference = first_difference(before.children, children)
            self._findings.not_back.append(f"{self._verb} {step} changed children: {difference}")

    async def _reflected(
        self, step: Mutation, picture: Picture, good: Picture, namespace: str
    ) -> None:
        self._findings.note(step, "reflected")
        if (picture.rendering == good.rendering) != (picture.children == good.children):
            self._findings.not_reflected.append(f"{self._verb} {step}")
        await self._world.enter(namespace)
        answer = await self._world.send("replace", namespace, picture.spec)
        assert answer.is_success, f"{self.at}: {answer.text}"
        anew = await self._picture(namespace, answer.json())
        if anew.children != picture.children:
            difference = first_difference(anew.children, picture.children)
            self._findings.by_the_way.append(f"{self._verb} {step}: {difference}")

    async def _home(self, good: Picture, after: str) -> None:
        picture = await self._become(good.spec)
        self._findings.returns += 1
        if picture.children != good.children:
            difference = first_difference(good.children, picture.children)
            self._findings.not_back.append(f"{self._verb} after {after}: {difference}")
        if picture.conditions != good.conditions:
            told = f"{dict(good.conditions)} != {dict(picture.conditions)}"
            self._findings.not_back.append(f"{self._verb} after {after}: {told}")


def rendering(spec: Spec) -> str:
    """Return the operator's result for a spec; empty if the spec is unusable."""
    try:
        proxy = manifest.parse(a_manifest(**spec))
    except ManifestError:
        return ""
    text = json.dumps(desired.build(proxy, _IN_CLUSTER, OWNER))
    # Named or not, it is the same scheduler: the API server fills in its name.
    return text.replace('"schedulerName": "default-scheduler", ', "")


def is_refusal(verb: str, status: int, message: str) -> bool:
    """Return True if an answer refuses a spec, and is not a failure of the API server.

    For a value of another type than the schema's, the API server answers a server-side apply with
    500, and names the field all the same.
    """
    untyped = verb == "apply" and status == 500 and message.startswith(_UNTYPED)
    return untyped or 400 <= status < 500


def names_it(message: str, path: Path) -> bool:
    """Return True if a message names the field at `path`, its parent, or its last part."""
    told = re.sub(r"(?<=\w)\[[^\]]*\]", "", message)
    parts = [part for part in path if isinstance(part, str)]
    holder = ".".join(parts[:-1])
    if ".".join(parts) in told or (holder and f"spec.{holder}" in told):
        return True
    return re.search(rf"\b{re.escape(parts[-1])}\b", told) is not None


def first_difference(expected: str, text: str) -> str:
    """The place where two texts begin to differ."""
    length = min(len(expected), len(text))
    at = next((n for n in range(length) if expected[n] != text[n]), length)
    return f"{expected[max(0, at - 120) : at + 80]!r} != {text[max(0, at - 120) : at + 80]!r}"
