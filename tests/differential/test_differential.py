"""Exchanges through the proxy equal those without it, except for the documented mapping."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.differential import mapping
from tests.differential.backend import MODERN, Backend, Call
from tests.differential.client import Client, header_text
from tests.differential.corpus import Case, cases, items
from tests.proxy.runtime.serving import CALM, LIVE, proxied, serving
from tests.stress.size import size

pytestmark = [*LIVE, pytest.mark.timeout(150)]
generated = settings(
    max_examples=size(15, 400),
    phases=[Phase.generate],
    report_multiple_bugs=False,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
META = "io.modelcontextprotocol/"
ERAS = ("legacy", "modern")
PREFIXES = ("", "p")
CAPABILITIES = """{"roots":{"listChanged":true},"sampling":{"tools":{}},"elicitation":{},
    "experimental":{"x":[1.50,123456789012345678901234567890,1e400,{"\\u2028":null}]}}"""
INFO = '{"name":"\\ud83d\\ude00","version":"1","x-more":{"n":0.10}}'
MEMBERS = {
    "tools/list": ("tools", "name"),
    "prompts/list": ("prompts", "name"),
    "resources/list": ("resources", "uri"),
    "resources/templates/list": ("resourceTemplates", "uriTemplate"),
}


@dataclass
class Script:
    """Lets a backend play one case at a time."""

    case: Case | None = None
    asked: list[bytes] = field(default_factory=list)
    """Answers to its questions."""

    async def answer(self, call: Call) -> None:
        """Everything that the case says."""
        case = self.case
        assert case is not None
        for notification in case.notifications:
            await call.emit(case.spelled({"jsonrpc": "2.0", **notification}))
        for question, _ in case.asked:

            def spelled(own: str, asked: Any = question) -> str:
                assert case is not None
                return case.spelled({"jsonrpc": "2.0", "id": own, **asked})

            self.asked.append((await call.ask(spelled)).body)
        envelope = f'{{"jsonrpc":"2.0","id":{json.dumps(call.message["id"])},'
        await call.finish(envelope + case.spelled(case.response)[1:])


class Bench:
    """A backend, and two clients of it: one directly, one through the proxy."""

    def __init__(self, script: Script, backend: Backend, direct: Client, proxied: Client) -> None:
        self.script = script
        self.backend = backend
        self.direct = direct
        self.proxied = proxied


def _generated(key: str, count: int) -> list[str]:
    """Items of a list, one name each."""
    made: list[str] = []

    @seed(20260728)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(items(key), st.booleans())
    def make(item: Any, escaped: bool) -> None:
        own = f"é{len(made)}" if key == "name" else f"note://{len(made)}/é"
        case = Case("", {}, {}, {}, [], [], escaped, 0)
        made.append(case.spelled({**item, key: own}))

    make()
    return made


def _lists() -> dict[str, list[str]]:
    return {member: _generated(key, size(30, 320)) for member, key in MEMBERS.values()}


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def benches() -> AsyncIterator[dict[tuple[str, str], Bench]]:
    """For each era and prefix a bench."""
    lists = _lists()
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=5))
        result = {}
        for era in ERAS:
            for prefix in PREFIXES:
                script = Script()
                backend = Backend(era, script.answer, lists)
                url = await stack.enter_async_context(serving(backend)) + "/mcp"
                spec = {"name": "b", "url": url, "prefix": prefix, "session": {"mode": "PerClient"}}
                # With keys that others may have, a session is opened when a client initializes, so
                # that its notifications have a receiver.
                options = {"keys": (b"k" * 32,)}
                proxy = await stack.enter_async_context(proxied(spec, options=options, **CALM))
                clients = (Client(http, at, era) for at in (url, proxy.url))
                bench = Bench(script, backend, *clients)
                if era == "legacy":
                    await bench.direct.initialize(CAPABILITIES, INFO)
                    await bench.proxied.initialize(CAPABILITIES, INFO)
                result[era, prefix] = bench
        yield result


def _stamped(params: Any) -> Any:
    """Params of the modern era."""
    meta = {
        **params.get("_meta", {}),
        f"{META}protocolVersion": MODERN,
        f"{META}clientCapabilities": {"experimental": {"x": 2**70}},
        f"{META}clientInfo": {"name": "c", "x-more": "@number:1.50"},
        f"{META}logLevel": "debug",
    }
    return {**params, "_meta": meta}


@dataclass
class Seen:
    """The messages that both sides of one exchange received."""

    request: Any
    headers: dict[str, str]
    asked: list[Any]
    messages: list[Any]


def _unlabelled(message: Any) -> None:
    """Ids and progress tokens of server requests are the sender's own."""
    own = message.pop("id", None)
    params = message.get("params")
    meta = params.get("_meta") if isinstance(params, dict) else None
    if own is not None and isinstance(meta, dict) and "progressToken" in meta:
        meta["progressToken"] = "@token"


async def _play(bench: Bench, client: Client, case: Case, prefix: str) -> Seen:
    params = _stamped(case.params) if client.era == "modern" else case.params
    params = mapping.outward_params(prefix, case.method, params)
    envelope = {"jsonrpc": "2.0", "id": case.request_id, "method": case.method, "params": params}
    body = case.spelled({**case.request, **envelope}).encode()
    replies = iter([answer for _, answer in case.asked])
    bench.script.case, bench.script.asked = case, []
    bench.backend.seen.clear()

    def reply(request: dict[str, Any]) -> bytes:
        shown = json.dumps(request["id"])
        rest = case.spelled(next(replies))[1:]
        return f'{{"jsonrpc":"2.0","id":{shown},{rest}'.encode()

    messages = [mapping.exact(entry) for entry in await client.exchange(body, reply)]
    got = bench.backend.seen[0]
    headers = {n: header_text(v) for n, v in got.headers.items() if n.startswith("mcp-")}
    headers.pop("mcp-session-id", None)
    for message in messages:
        if "method" in message:
            _unlabelled(message)
    asked = [mapping.exact(element) for element in bench.script.asked]
    for item in asked:
        item.pop("id")
    return Seen(mapping.exact(got.body), headers, asked, messages)


async def _compared(bench: Bench, prefix: str, case: Case) -> None:
    direct = await _play(bench, bench.direct, case, "")
    through = await _play(bench, bench.proxied, case, prefix)
    *before, response = direct.messages
    response = mapping.outward_response(prefix, case.method, response)
    assert mapping.tagged(through.request) == mapping.tagged(direct.request)
    assert through.headers == direct.headers
    assert mapping.tagged(through.asked) == mapping.tagged(direct.asked)
    assert mapping.tagged(through.messages) == mapping.tagged([*before, response])


@pytest.mark.parametrize("prefix", PREFIXES)
@seed(20260728)
@generated
@given(case=cases("legacy"))
async def test_legacy_requests_and_all_that_they_cause_pass_unchanged(
    benches: dict[tuple[str, str], Bench], prefix: str, case: Case
) -> None:
    await _compared(benches["legacy", prefix], prefix, case)


@pytest.mark.parametrize("prefix", PREFIXES)
@seed(20260728)
@generated
@given(case=cases("modern"))
async def test_modern_requests_and_all_that_they_cause_pass_unchanged(
    benches: dict[tuple[str, str], Bench], prefix: str, case: Case
) -> None:
    await _compared(benches["modern", prefix], prefix, case)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("method", sorted(MEMBERS))
async def test_items_of_lists_pass_unchanged(
    benches: dict[tuple[str, str], Bench], era: str, prefix: str, method: str
) -> None:
    bench = benches[era, prefix]
    member, key = MEMBERS[method]
    given_items = [mapping.exact(item) for item in bench.backend.lists[member]]
    assert len(given_items) >= size(30, 300)
    rename = mapping.name if key == "name" else mapping.uri
    expected = [{**entry, key: rename(prefix, entry[key])} for entry in given_items]
    params = _stamped({}) if era == "modern" else {}
    case = Case(method, params, {}, {}, [], [], True, 1)
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    (result,) = await bench.proxied.exchange(case.spelled(request).encode())
    shown = mapping.exact(result)["result"][member]
    assert mapping.tagged(shown) == mapping.tagged(expected)


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_a_backend_sees_the_information_of_its_client(
    benches: dict[tuple[str, str], Bench], prefix: str
) -> None:
    bench = benches["legacy", prefix]
    greetings = [mapping.exact(item.body) for item in bench.backend.greetings]
    direct, *through = (g for g in greetings if g["params"]["clientInfo"]["name"] != "mcpproxy")
    assert through
    for greeting in through:
        for member in ("capabilities", "clientInfo"):
            said = mapping.tagged(greeting["params"][member])
            assert said == mapping.tagged(direct["params"][member])


@pytest.mark.parametrize("prefix", PREFIXES)
@seed(20260728)
@generated
@given(case=cases("legacy"))
async def test_notifications_of_clients_pass_unchanged(
    benches: dict[tuple[str, str], Bench], prefix: str, case: Case
) -> None:
    bench = benches["legacy", prefix]
    message = {
        "jsonrpc": "2.0",
        "method": "notifications/roots/list_changed",
        "params": case.params,
    }
    body = case.spelled(message).encode()
    bench.backend.seen.clear()
    assert await bench.direct.tell(body) == 202
    assert await bench.proxied.tell(body) == 202
    direct, through = (mapping.tagged(mapping.exact(item.body)) for item in bench.backend.seen)
    assert through == direct
