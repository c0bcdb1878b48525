"""The probe for the modern era costs a backend that does not know it nothing."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response

from mcpproxy.limits.sessions import GREETING
from mcpproxy.proxy.core.errors import ProtocolError, RateLimited, Unauthorized, Unreachable
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.protocol.revisions import META_VERSION
from mcpproxy.proxy.upstream.connect.handshake import parse_discover_result, parse_initialize_result
from mcpproxy.proxy.upstream.connect.negotiation import PROBE_AGAIN
from tests.proxy.upstream.era_servers import (
    LEGACY,
    MODERN,
    Answer,
    Server,
    connector_of,
    dropped,
    error,
    initialized,
    legacy,
    modern,
    open_stream,
    result_of,
    silent,
    silent_stream,
    status,
)


def failed(code: int) -> Answer:
    """Responds with HTTP 5xx and a JSON-RPC error."""
    return error(-32603, code)


INCONCLUSIVE: dict[str, Answer] = {
    "401": status(401),
    "403": status(403),
    "429": status(429),
    "500": status(500),
    "500 with an error": failed(500),
    "501": status(501),
    "502": status(502),
    "503": status(503),
    "302": status(302),
    "result is no object": lambda method, message: JSONResponse(
        {"jsonrpc": "2.0", "id": message["id"], "result": []}
    ),
    "dropped": dropped,
    "silent": silent,
    "silent stream": silent_stream,
}
SHORT = {"connect": "300ms", "initialize": "200ms"}


@pytest.mark.parametrize("case", INCONCLUSIVE)
async def test_an_inconclusive_probe_is_followed_by_initialize(case: str) -> None:
    server = Server(INCONCLUSIVE[case], legacy)
    timeouts = SHORT if "silent" in case else {"connect": "1s", "initialize": "5s"}
    async with connector_of(server, timeouts=timeouts) as connector:
        for _ in range(3):
            link = await connector.open(MODERN)
            assert link.server.revision == "2025-11-25"
            await link.close()
    probes = server.asked.count("server/discover")
    # The connection may have broken before the probe arrived, so the probe is repeated once.
    assert probes <= (2 if case == "dropped" else 1)


async def test_a_rate_limit_on_everything_is_reported_after_one_request_of_each_era() -> None:
    server = Server(status(429), status(429))
    async with connector_of(server) as connector:
        with pytest.raises(RateLimited):
            await connector.open(MODERN)
    assert server.asked == ["server/discover", "initialize"]


@pytest.mark.parametrize("code", [-32601, -32022])
async def test_a_modern_backend_that_refuses_initialize_with_http_5xx_is_used(
    code: int,
) -> None:
    server = Server(modern, error(code, 500))
    async with connector_of(server) as connector:
        assert (await connector.open(LEGACY)).server.modern


async def test_a_backend_that_cannot_be_reached_is_not_tried_in_the_other_era() -> None:
    server = Server(modern, legacy)
    async with connector_of(server) as connector:
        connector._endpoint.client.origin.address = ("127.0.0.1", 1)
        with pytest.raises(Unreachable, match="refused"):
            await connector.open(MODERN)


async def test_if_neither_era_works_the_failure_of_the_probe_is_reported() -> None:
    async with connector_of(Server(status(401), status(400))) as connector:
        with pytest.raises(Unauthorized):
            await connector.open(MODERN)


@pytest.mark.parametrize("case", ["503", "silent", "200 with an error"])
async def test_a_modern_backend_that_refused_one_probe_is_probed_again(
    monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    server = Server({**INCONCLUSIVE, "200 with an error": error(-32603)}[case], legacy)
    async with connector_of(server, timeouts=SHORT) as connector:
        assert not (await connector.open(MODERN)).server.modern
        server.discover = modern
        assert not (await connector.open(MODERN)).server.modern
        _advance(monkeypatch, PROBE_AGAIN)
        assert (await connector.open(MODERN)).server.modern


def _advance(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Advance the clock of the running loop."""
    now = asyncio.get_running_loop().time
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now() + seconds)


async def test_the_interval_of_probes_grows_up_to_one_hour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server(status(503), legacy)
    async with connector_of(server) as connector:
        await connector.open(MODERN)
        for seconds in (60, 120, 240, 480, 960, 1920, 3600, 3600):
            for passed in (seconds - 10, 10):
                probes = server.asked.count("server/discover")
                _advance(monkeypatch, passed)
                await connector.open(MODERN)
            assert server.asked.count("server/discover") == probes + 1


TRANSIENT = {"internal error": -32603, "overloaded": -32000, "of its own": 7}


@pytest.mark.parametrize("case", TRANSIENT)
async def test_an_error_of_initialize_that_proves_no_era_is_reported_and_not_cached(
    case: str,
) -> None:
    text = "not\u202e ready" + "." * 1000
    server = Server(status(503), error(TRANSIENT[case], message=text))
    async with connector_of(server) as connector:
        for client in (LEGACY, MODERN):
            with pytest.raises(
                ProtocolError, match=f"error {TRANSIENT[case]}: not\ufffd ready"
            ) as raised:
                await connector.open(client)
            assert len(str(raised.value)) < 300
        server.initialize = legacy
        assert not (await connector.open(LEGACY)).server.modern


async def test_after_a_transient_error_of_initialize_the_other_era_is_for_one_client_alone() -> (
    None
):
    server = Server(modern, error(-32603))
    async with connector_of(server) as connector:
        assert (await connector.open(LEGACY)).server.modern
        server.initialize = legacy
        assert not (await connector.open(LEGACY)).server.modern


OF_ERA: dict[str, Answer] = {
    "method not found": error(-32601),
    "the SDK in TypeScript": error(-32022, 400),
    "a gateway that wants the header": error(-32020, 400),
    "a server that wants the metadata": error(-32602, message=f"_meta lacks {META_VERSION}"),
}


@pytest.mark.parametrize("case", OF_ERA)
async def test_a_backend_that_rejects_the_legacy_era_is_probed_once(
    case: str,
) -> None:
    server = Server(modern, OF_ERA[case])
    async with connector_of(server) as connector:
        for _ in range(3):
            assert (await connector.open(LEGACY)).server.modern
    assert server.asked.count("initialize") == 1


async def test_a_modern_backend_that_refused_one_probe_is_still_found_by_its_refusal() -> None:
    server = Server(status(503), error(-32022, 400))
    async with connector_of(server) as connector:
        with pytest.raises(Unreachable):
            await connector.open(MODERN)
        server.discover = modern
        assert (await connector.open(MODERN)).server.modern


def _without_session(method: str, message: Any) -> Response:
    return initialized(message)


async def test_initialized_is_sent_also_where_there_is_no_session_id() -> None:
    server = Server(status(404), _without_session)
    async with connector_of(server) as connector:
        link = await connector.open(LEGACY)
        assert not link.stateful
    assert server.asked == ["initialize", "notifications/initialized"]


INITIALIZED_TIME = "mcpproxy.proxy.upstream.connect.negotiation.INITIALIZED_TIME"
ODD_ANSWERS: dict[str, Answer] = {
    "open stream": open_stream,
    "400": status(400),
    "500": status(500),
    "a result": lambda method, message: JSONResponse({}),
    "dropped": dropped,
}


@pytest.mark.parametrize("case", ODD_ANSWERS)
@pytest.mark.parametrize("initialize", [legacy, _without_session])
async def test_a_session_is_used_regardless_of_the_response_to_initialized(
    case: str, initialize: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    if case == "open stream":
        monkeypatch.setattr(INITIALIZED_TIME, Short())
    server = Server(status(404), initialize)
    server.others["notifications/initialized"] = ODD_ANSWERS[case]
    async with connector_of(server) as connector:
        assert (await connector.open(LEGACY)).server.revision == "2025-11-25"


async def test_a_backend_that_does_not_respond_to_initialized_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(INITIALIZED_TIME, Short())
    server = Server(status(404), legacy)
    server.others["notifications/initialized"] = silent
    async with connector_of(server) as connector:
        assert (await connector.open(LEGACY)).server.revision == "2025-11-25"


class Short:
    """A limit that is reached soon."""

    value = 0.05
    reached = 0

    def record(self) -> None:
        self.reached += 1


async def test_an_error_of_json_rpc_with_http_5xx_is_not_taken_for_a_greeting() -> None:
    async with connector_of(Server(status(404), failed(500))) as connector:
        with pytest.raises(Unreachable, match="500: error -32603: no"):
            await connector.open(LEGACY)


async def test_an_initialize_result_with_an_unknown_revision_is_refused() -> None:
    def odd(method: str, message: Any) -> Response:
        return result_of(message, protocolVersion="2030-01-01", capabilities={})

    async with connector_of(Server(status(500), odd)) as connector:
        with pytest.raises(ProtocolError):
            await connector.open(MODERN)


@pytest.mark.parametrize(
    "read", [parse_discover_result, lambda message: parse_initialize_result(message, None)]
)
def test_a_backend_with_an_oversized_initialize_result_is_not_used(
    read: Callable[[Message], Any],
) -> None:
    reached = GREETING.reached
    said = {"protocolVersion": "2025-11-25", "supportedVersions": ["2026-07-28"]}
    assert read({"result": jsonrpc.encode_raw(said)}) is not None
    with pytest.raises(
        ProtocolError, match="the result of initialize or server/discover has more than"
    ):
        read({"result": jsonrpc.encode_raw({**said, "instructions": "x" * GREETING.value})})
    assert GREETING.reached == reached + 1
