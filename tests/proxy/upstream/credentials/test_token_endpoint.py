"""Requests to a token endpoint: their pace while they fail, and when they are given up."""

import asyncio
import itertools
from collections import Counter
from typing import Any

import pytest

from mcpproxy.limits.tokens import TOKEN_REQUESTS, TOKEN_TIME
from mcpproxy.proxy.core.errors import BackendError, TokenRefused, TokenUnavailable
from mcpproxy.proxy.issuers.documents import IssuerResponse
from mcpproxy.proxy.upstream.credentials import token_endpoint
from mcpproxy.proxy.upstream.credentials.token_endpoint import TokenEndpoint
from mcpproxy.proxy.upstream.credentials.token_server import TokenServer
from tests.proxy.upstream.credentials.clocks import Clock

SERVER = TokenServer("https://login.example.com/token", "https://login.example.com")
ISSUED = (200, b'{"access_token":"t","token_type":"bearer","expires_in":"60"}')


class Server:
    """A token server, its finder and its HTTP client at once."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.answer: tuple[int, bytes] = ISSUED
        self.retry_after = b""
        self.times: list[float] = []
        self.running = self.most = 0
        self.hold: asyncio.Event | None = None
        self.results: Counter[str] = Counter()
        self.http = self
        self.endpoint = TokenEndpoint(self, self, self._record, self.clock)  # type: ignore[arg-type]

    def _record(self, result: str) -> None:
        self.results[result] += 1

    async def find(self) -> TokenServer:
        """Return the server."""
        return SERVER

    def forget(self) -> None:
        """Forget nothing."""

    def prove(self, server: TokenServer) -> tuple[Any, Any]:
        """Return no proof."""
        return (), {}

    async def send(self, *request: Any) -> IssuerResponse:
        """Answer a request."""
        self.times.append(self.clock.now)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await (asyncio.sleep(0) if self.hold is None else self.hold.wait())
        finally:
            self.running -= 1
        status, body = self.answer
        headers = {b"retry-after": self.retry_after} if self.retry_after else {}
        return IssuerResponse(SERVER.token_url, status, b"application/json", body, headers)

    async def ask(self) -> BackendError | None:
        """Request a token; return the error, if any."""
        try:
            await self.endpoint.request(lambda server: {})
        except BackendError as error:
            return error
        return None


@pytest.mark.parametrize(
    ("answer", "kind"),
    [((503, b""), TokenUnavailable), ((401, b'{"error":"invalid_client"}'), TokenRefused)],
)
async def test_a_failing_authorization_server_gets_one_request_a_second_of_all_callers(
    answer: tuple[int, bytes], kind: type[BackendError]
) -> None:
    server = Server()
    server.answer = answer
    first = await asyncio.gather(*(server.ask() for _ in range(100)))
    assert all(type(error) is kind for error in first)
    # The requests that had begun before the first one failed.
    assert len(server.times) <= TOKEN_REQUESTS.value
    begun = len(server.times)
    for _ in range(600):
        server.clock.now += 0.1
        errors = await asyncio.gather(*(server.ask() for _ in range(5)))
        assert all(type(error) is kind for error in errors)
    later = server.times[begun:]
    assert 4 <= len(later) <= 7
    assert all(after - before >= 1.0 for before, after in itertools.pairwise(later))
    server.answer = ISSUED
    server.clock.now += 30
    assert await asyncio.gather(*(server.ask() for _ in range(20))) == [None] * 20
    assert server.results["issued"] == 20


async def test_a_refusal_of_one_subject_delays_no_other() -> None:
    server = Server()
    server.answer = (400, b'{"error":"invalid_grant","error_description":"words"}')
    error = await server.ask()
    assert error is not None
    assert str(error).endswith("refused a token for the backend: invalid_grant")
    assert "words" not in error.finding
    server.answer = ISSUED
    assert await server.ask() is None
    assert server.results == {"refused": 1, "issued": 1}


async def test_the_server_may_ask_for_a_longer_pause() -> None:
    server = Server()
    server.answer, server.retry_after = (429, b""), b"20"
    await server.ask()
    server.answer = ISSUED
    server.clock.now += 19
    assert await server.ask() is not None
    server.clock.now += 2
    assert await server.ask() is None


async def test_few_requests_run_at_the_same_time() -> None:
    server = Server()
    server.hold = asyncio.Event()
    asking = [asyncio.create_task(server.ask()) for _ in range(30)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert server.running == TOKEN_REQUESTS.value
    server.hold.set()
    assert await asyncio.gather(*asking) == [None] * 30
    assert server.most == TOKEN_REQUESTS.value


async def test_an_endless_response_of_an_authorization_server_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits: list[float] = []
    real = asyncio.timeout

    def timeout(seconds: float) -> Any:
        limits.append(seconds)
        return real(0.01)

    monkeypatch.setattr(token_endpoint.asyncio, "timeout", timeout)  # type: ignore[attr-defined]
    server = Server()
    server.hold = asyncio.Event()
    before = TOKEN_TIME.reached
    error = await server.ask()
    assert isinstance(error, TokenUnavailable)
    assert "no response within 10 s" in error.finding
    assert limits == [TOKEN_TIME.value]
    assert TOKEN_TIME.reached == before + 1
