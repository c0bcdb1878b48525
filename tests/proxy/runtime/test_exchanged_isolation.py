"""Many callers of one backend at once, whose tokens are refreshed on either side."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from mcpproxy.proxy.upstream.monitor.list_variants import LATE
from tests.proxy.runtime.asserting import Enterprise
from tests.proxy.runtime.granting import CLIENT, EXCHANGE
from tests.proxy.runtime.issuing import IssuerServer
from tests.proxy.runtime.raw import Raw, last, rpc
from tests.proxy.runtime.serving import LIVE, Proxy
from tests.proxy.runtime.subjects import Subjects, is_young

pytestmark = [*LIVE, pytest.mark.slow]
CALLERS = {"tokenExchange": 32, "idJag": 16}
"""By kind: a token takes two requests with an ID-JAG, so the number of requests is the same."""
SECONDS = 4.0
LEAST = 5
"""Calls of each caller, at least, also on a busy machine."""
NO_RESPONSE = "because backends failed: backend p: no response within"
TRIES = 10
"""Requests for a list that is late, each of which waits for seconds."""
LIFETIME = 2
"""Seconds after which the backend refuses a token."""


@dataclass
class Results:
    """Results of the callers."""

    failed: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)


async def _caller(
    proxy: Proxy, issuer: IssuerServer, http: httpx2.AsyncClient, name: str, results: Results
) -> None:
    """Call and list until the time is over, often with a new token."""
    dice, loop = random.Random(name), asyncio.get_running_loop()
    end, serial = loop.time() + SECONDS, 0
    token, modern = issuer.token(name, jti="0"), dice.random() < 0.5
    raw = Raw(proxy.url, http)
    if not modern:
        await raw.initialize(authorization=token)
    while loop.time() < end or results.calls[name] <= LEAST:
        if dice.random() < 0.2:
            serial += 1
            token = issuer.token(name, jti=str(serial), sid=str(serial))
        lists = dice.random() < 0.2
        answer = await _ask(raw, token, name, modern=modern, lists=lists)
        content = last(answer)
        for _ in range(TRIES):
            if not lists or not (LATE in answer.text or NO_RESPONSE in answer.text):
                break
            # On a busy machine, the caller asks again until its list is there.
            answer = await _ask(raw, token, name, modern=modern, lists=lists)
            content = last(answer)
        if "result" not in content:
            results.failed.append(answer.text)
        elif lists:
            names = [tool["name"] for tool in content["result"]["tools"]]
            results.foreign += [n for n in names if n != f"of-{name}"]
            results.failed += [] if names else [f"no tools for {name}"]
        else:
            text = content["result"]["content"][0]["text"]
            results.foreign += [] if text == name else [text]
        results.calls[name] += 1


async def _ask(raw: Raw, token: str, name: str, *, modern: bool, lists: bool) -> httpx2.Response:
    params: dict[str, Any] = {"name": f"of-{name}", "arguments": {"who": name}}
    if not modern:
        message = rpc("tools/list") if lists else rpc("tools/call", params)
        return await raw.post(message, authorization=token)
    own = Raw(raw.url, raw.http)
    method = "tools/list" if lists else "tools/call"
    from tests.proxy.runtime.raw import MODERN
    from tests.proxy.runtime.raw import modern as request

    headers: dict[str, str | None] = {"mcp_protocol_version": MODERN, "mcp_method": method}
    if not lists:
        headers["mcp_name"] = params["name"]
    message = request(method, **({} if lists else params))
    return await own.post(message, authorization=token, **headers)


@pytest.mark.parametrize("mode", ["Isolated", "PerClient", "Reused"])
@pytest.mark.parametrize("era", ["legacy", "modern"])
@pytest.mark.parametrize("kind", ["tokenExchange", "idJag"])
async def test_no_caller_gets_what_belongs_to_another_and_no_refresh_fails_a_call(
    enterprise: Enterprise,
    issuer: IssuerServer,
    http: httpx2.AsyncClient,
    mode: str,
    era: str,
    kind: str,
) -> None:
    stage, provider = enterprise.stage, enterprise.provider
    app, results = Subjects(era), Results()
    stage.grants.lifetime = LIFETIME
    backend = await stage.backend(app=app, actor=CLIENT)
    backend.accepts = lambda claims: is_young(claims, LIFETIME)
    session = {"mode": mode, "stateless": True} if mode == "Reused" else {"mode": mode}
    client = stage.grants.spec()
    if kind == "idJag":
        client["identityProvider"] = provider.spec()
    spec = {**issuer.spec(), "cache": {"ttl": "1s"}}
    proxy = await stage.proxy(backend, {kind: client}, {"session": session}, **spec)
    callers = CALLERS[kind]
    names = [f"c{number}" for number in range(callers)]
    await asyncio.gather(*(_caller(proxy, issuer, http, name, results) for name in names))
    assert not results.failed, results.failed[:3]
    assert not results.foreign
    assert not app.strangers
    assert all(subject == who for subject, who in backend.calls)
    assert min(results.calls.values()) > LEAST
    forms = provider.forms if kind == "idJag" else stage.grants.of_type(EXCHANGE)
    exchanges = Counter(form["subject_token"] for form in forms)
    assert sum(exchanges.values()) >= 2 * callers
    # Renewed in time and once for all requests of a caller: about one in each second.
    assert sum(exchanges.values()) <= 2 * callers * (SECONDS + 2)
