"""`allowedHosts` and `allowedOrigins`: who may call, by the names that a request gives."""

from typing import Any

import httpx2
import pytest

from tests.proxy.runtime.raw import Raw
from tests.proxy.runtime.serving import LIVE

pytestmark = LIVE
OURS = ("tools", "tools.team", "tools.team.svc", "tools.team.svc.cluster.local", "localhost")
"""Names of the Service, and of this machine."""
MISDIRECTED = 421


async def _status(url: str, http: httpx2.AsyncClient, **headers: str) -> int:
    return (await Raw(url, http).initialize(**headers)).status_code


async def test_only_hosts_of_the_spec_are_served(
    peer: Any, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await peer("p")
    hosts = ["tools.example.com", "*.example.org"]
    running = await proxy({"name": "p", "url": url}, allowedHosts=hosts)
    named = ("tools.example.com", "TOOLS.example.com:8080", "a.example.org", "b.a.example.org")
    for host in (*OURS, *named):
        assert await _status(running.url, http, host=host) == 200, host
    for host in ("example.org", "other.example.com", "tools.other", "evil.example"):
        assert await _status(running.url, http, host=host) == MISDIRECTED, host


async def test_without_hosts_the_service_and_this_machine_are_served_alone(
    peer: Any, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url})
    for host in OURS:
        assert await _status(running.url, http, host=host) == 200, host
    assert await _status(running.url, http, host="tools.example.com") == MISDIRECTED


async def test_any_host_is_served_if_the_spec_allows_it(
    peer: Any, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url}, allowedHosts=["*"])
    assert await _status(running.url, http, host="whatever.example") == 200
    page = "https://whatever.example"
    assert await _status(running.url, http, host="whatever.example", origin=page) == 403


@pytest.mark.parametrize(
    ("origins", "served", "refused"),
    [
        (["https://app.example.com"], "https://app.example.com", "https://other.example.com"),
        (["https://app.example.com"], "https://app.example.com", "http://app.example.com"),
        (["https://app.example.com"], "https://app.example.com:443", "https://app.example.com:444"),
        (["https://*.example.com"], "https://app.example.com", "https://example.com"),
        (["*"], "https://anything.example", "null"),
    ],
)
async def test_only_pages_of_origins_of_the_spec_are_served(
    peer: Any,
    proxy: Any,
    http: httpx2.AsyncClient,
    origins: list[str],
    served: str,
    refused: str,
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url}, allowedOrigins=origins)
    assert await _status(running.url, http) == 200
    assert await _status(running.url, http, origin=running.base) == 200
    assert await _status(running.url, http, origin=served) == 200
    assert await _status(running.url, http, origin=refused) == 403


async def test_a_refused_page_reads_which_origin_was_found_and_how_to_admit_it(
    peer: Any, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url})
    answer = await Raw(running.url, http).initialize(origin="http://localhost:6274")
    assert answer.status_code == 403
    message = answer.json()["error"]["message"]
    assert "http://localhost:6274" in message
    assert "spec.allowedOrigins" in message
    assert "--allowed-origin" in message
