"""Random rules over HTTP, at one instance and at three: lists, calls and plan agree."""

from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from mcpproxy.api.v1alpha1.status import BackendStatus
from mcpproxy.plan.access.callers import PlannedCaller
from mcpproxy.plan.access.permissions import build_access
from mcpproxy.plan.document import build_document
from mcpproxy.proxy.core.catalog.component_selection import selections
from mcpproxy.proxy.protocol.kinds import KINDS
from tests.proxy.authorization.random_policies import CALLERS, authorizations
from tests.proxy.runtime.callers import AUTHENTICATION, LISTS, caller, sign_in
from tests.proxy.runtime.serving import LIVE, Proxy, proxied, serving
from tests.proxy.runtime.shelf import Shelf
from tests.proxy.runtime.strangers import KEY
from tests.support.builders import an_mcpproxy
from tests.support.examples import examples

pytestmark = [*LIVE, pytest.mark.timeout(180)]
EXAMPLES = settings(
    max_examples=examples(5),
    deadline=None,
    derandomize=True,
    # A smaller example is not worth minutes of starting proxies.
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("instances", [1, pytest.param(3, marks=pytest.mark.slow)])
@given(authorization=authorizations())
@EXAMPLES
async def test_callers_may_use_the_components_that_are_listed_and_that_a_plan_shows(
    monkeypatch: pytest.MonkeyPatch, instances: int, authorization: dict[str, Any]
) -> None:
    sign_in(monkeypatch)
    spec = {"authorization": authorization, "authentication": AUTHENTICATION}
    async with AsyncExitStack() as stack:
        backends = [
            {
                "name": name,
                "url": f"{await stack.enter_async_context(serving(Shelf(name).gate))}/mcp",
                "session": {"mode": mode},
            }
            for name, mode in (("a", "Isolated"), ("b", "PerClient"))
        ]
        options = {"keys": (KEY,)}
        proxies = [
            await stack.enter_async_context(proxied(*backends, options=options, **spec))
            for _ in range(instances)
        ]
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=30))
        planned = planned_components(proxies[0], backends, authorization)
        for number, identity in enumerate(CALLERS):
            for era in ("legacy", "modern"):
                first = await caller(proxies[0].url, http, era, identity)
                session = first.raw.session
                for proxy in proxies:
                    who = await caller(proxy.url, http, era, identity, session)
                    for kind in LISTS:
                        every, expected = planned[number][kind]
                        assert sorted(await who.listed(kind)) == expected
                        used = [name for name in every if await _may_use(who, kind, name)]
                        assert used == expected, (era, kind, authorization)
                        also = [name for name in every if await _may_also_use(who, kind, name)]
                        assert also == expected, (era, kind, authorization)


async def _may_use(who: Any, kind: str, name: str) -> bool:
    answer = await who.use(kind, name)
    if answer.status_code == 403:
        return False
    return not str(answer.text).partition('"message":')[2].lstrip(' "').startswith("unknown ")


async def _may_also_use(who: Any, kind: str, name: str) -> bool:
    """True unless the other request about a component is refused: completion, or subscription."""
    if kind == "prompts":
        ref, argument = {"type": "ref/prompt", "name": name}, {"name": "x", "value": ""}
        answer = await who.send("completion/complete", ref=ref, argument=argument)
    elif kind == "resources" and who.era == "legacy":
        answer = await who.send("resources/subscribe", uri=name)
    else:
        return await _may_use(who, kind, name)
    if answer.status_code == 403:
        return False
    return '"message":"unknown ' not in str(answer.text).replace(": ", ":")


def planned_components(
    proxy: Proxy, backends: list[dict[str, Any]], authorization: dict[str, Any]
) -> list[dict[str, tuple[list[str], list[str]]]]:
    """For each caller and kind: all names, and those that a plan shows."""
    gateway = proxy.runtime.gateway
    model = an_mcpproxy(
        backends=backends, authorization=authorization, authentication=AUTHENTICATION
    )
    statuses = [BackendStatus.model_validate({"name": b, "state": "Healthy"}) for b in "ab"]
    origins = {
        name: (backend.names, selections(backend.settings))
        for name, backend in gateway.backends.items()
    }
    plan = build_document(model.metadata, gateway.catalog, statuses, origins, known=True)
    callers = [PlannedCaller(str(number), identity) for number, identity in enumerate(CALLERS)]
    access = build_access(model.spec, gateway.catalog, plan, callers)
    assert access is not None
    return [
        {
            kind.member: (
                sorted(entry["name"] for entry in plan[kind.member]),
                sorted(described[kind.member]["names"]),
            )
            for kind in KINDS
        }
        for described in access["callers"]
    ]
