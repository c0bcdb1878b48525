"""Random rules over HTTP, at one instance and three: skills, tasks and listens match a plan."""

import json
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest
from hypothesis import given

from mcpproxy.proxy.core.identity import Identity
from tests.proxy.authorization.random_policies import CALLERS, authorizations
from tests.proxy.runtime.callers import AUTHENTICATION, Caller, caller, sign_in
from tests.proxy.runtime.extended import TASKS, Extended, a_skill, settled, tool, with_skills
from tests.proxy.runtime.raw import MODERN, last, modern
from tests.proxy.runtime.serving import LIVE, Proxy, proxied, serving
from tests.proxy.runtime.shelf import TOOLS
from tests.proxy.runtime.strangers import KEY
from tests.proxy.runtime.test_authorization_agreement import EXAMPLES, planned_components

pytestmark = [*LIVE, pytest.mark.timeout(180)]
SKILLS = ("git", "admin", "pub/a")
STATE = {
    "createdAt": "2026-01-01T00:00:00Z",
    "lastUpdatedAt": "2026-01-01T00:00:00Z",
    "status": "working",
    "ttlMs": None,
}
META = "io.modelcontextprotocol/"
DECLARED: dict[str, Any] = {"extensions": {TASKS: {}, f"{META}skills": {}}}


def _backend() -> Extended:
    """A server whose tools make tasks, and whose skills are resources that can be watched."""
    made = with_skills("modern", [a_skill(path) for path in SKILLS])
    uris = [f"skill://{path}/SKILL.md" for path in SKILLS]
    handlers = {
        **made.handlers,
        "tools/call": lambda params: {"resultType": "task", "taskId": params["name"], **STATE},
        "tasks/get": lambda params: {
            "resultType": "complete",
            "taskId": params["taskId"],
            **STATE,
        },
    }
    return Extended(
        "modern",
        {**made.extensions, TASKS: {}},
        handlers,
        [tool(name) for name in TOOLS],
        [json.dumps({"uri": uri, "name": "s"}) for uri in uris],
        {"resources": {"subscribe": True}},
    )


@pytest.mark.parametrize("instances", [1, pytest.param(3, marks=pytest.mark.slow)])
@given(authorization=authorizations())
@EXAMPLES
async def test_skills_tasks_and_watched_resources_are_those_that_a_plan_shows(
    monkeypatch: pytest.MonkeyPatch, instances: int, authorization: dict[str, Any]
) -> None:
    sign_in(monkeypatch)
    spec = {"authorization": authorization, "authentication": AUTHENTICATION}
    async with AsyncExitStack() as stack:
        backends = [
            {"name": n, "url": f"{await stack.enter_async_context(serving(made.backend))}/mcp"}
            for n, made in (("a", _backend()), ("b", _backend()))
        ]
        proxies = [
            await stack.enter_async_context(proxied(*backends, options={"keys": (KEY,)}, **spec))
            for _ in range(instances)
        ]
        for proxy in proxies:
            await settled(proxy)
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=30))
        plan = planned_components(proxies[0], backends, authorization)
        for number, identity in enumerate(CALLERS):
            every, resources = plan[number]["resources"]
            tools = plan[number]["tools"]
            tasks = await _make_tasks(await _speaker(proxies[0], http, identity), *tools)
            for proxy in proxies:
                who = await _speaker(proxy, http, identity)
                assert await _listed_skills(who) == resources, authorization
                used = [uri for uri in every if "result" in last(await _skill(who, uri))]
                assert used == resources, authorization
                received = await _acknowledged(who, resourceSubscriptions=[*every, "x://unknown"])
                assert sorted(received.get("resourceSubscriptions", [])) == resources, authorization
                await _check_tasks(who, tasks, proxy, identity, tools[1])


async def _speaker(proxy: Proxy, http: httpx2.AsyncClient, identity: Identity) -> Caller:
    return await caller(proxy.url, http, "modern", identity)


async def _send(who: Caller, method: str, about: str = "", /, **params: Any) -> httpx2.Response:
    message = modern(method, **params)
    message["params"]["_meta"][f"{META}clientCapabilities"] = DECLARED
    headers = {"mcp_protocol_version": MODERN, "mcp_method": method, **who.headers}
    if about:
        headers["mcp_name"] = about
    return await who.raw.post(message, **headers)


async def _listed_skills(who: Caller) -> list[str]:
    answer = last(await _send(who, "skills/list"))
    # Without access to any backend, none offers the list.
    return sorted(skill["uri"] for skill in answer.get("result", {}).get("skills", ()))


async def _skill(who: Caller, uri: str) -> httpx2.Response:
    return await _send(who, "skills/get", uri, uri=uri)


async def _acknowledged(who: Caller, **notifications: Any) -> dict[str, Any]:
    """The notifications that a new listen is going to get."""
    message = modern("subscriptions/listen", notifications=notifications)
    message["params"]["_meta"][f"{META}clientCapabilities"] = DECLARED
    headers = {"mcp_protocol_version": MODERN, "mcp_method": "subscriptions/listen"}
    answers = who.raw.messages(message, **headers, **who.headers)
    first = await anext(answers)
    await answers.aclose()  # type: ignore[attr-defined]
    acknowledged: dict[str, Any] = first["params"]["notifications"]
    return acknowledged


async def _make_tasks(who: Caller, every: list[str], allowed: list[str]) -> list[str]:
    """Call all tools; the ids of the tasks, which those make that the caller may use."""
    made = {}
    for name in every:
        answer = last(await _send(who, "tools/call", name, name=name, arguments={}))
        if "result" in answer:
            made[name] = answer["result"]["taskId"]
    assert list(made) == allowed
    return [*made.values()]


async def _check_tasks(
    who: Caller, own: list[str], proxy: Proxy, identity: Identity, tools: list[str]
) -> None:
    """The caller's tasks are served at every instance, and others only with access to a tool."""
    for task in own:
        assert last(await _send(who, "tasks/get", task, taskId=task))["result"]["taskId"] == task
    if own:
        received = await _acknowledged(who, taskIds=own)
        assert sorted(received["taskIds"]) == sorted(own)
    for name, backend in proxy.runtime.gateway.backends.items():
        earlier = backend.names.tasks.to_downstream("earlier", identity.principal)
        foreign = backend.names.tasks.to_downstream("foreign", "somebody")
        uses = any(tool.startswith(f"{name}_") for tool in tools)
        assert ("result" in last(await _send(who, "tasks/get", earlier, taskId=earlier))) is uses
        refused = last(await _send(who, "tasks/get", foreign, taskId=foreign))
        assert refused["error"]["message"] == f"unknown task: {foreign}"
        received = await _acknowledged(who, taskIds=[earlier, foreign])
        assert received.get("taskIds", []) == ([earlier] if uses else [])
