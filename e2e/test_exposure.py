"""Clients reach a proxy through a Gateway or an Ingress, with TLS and credentials.

The Ingress is served by Debian's nginx with the generated rules, and its status is played. Traefik,
which needs minutes to be built, serves the HTTPRoute: `make gateway`.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from e2e import exposure, pods
from e2e.access import AUDIENCE, issuer, token
from e2e.clients import MODES, call
from e2e.exposure import NAME, PATH, Doors
from e2e.pods import PORT, ready_pods
from e2e.world import Object, World, eventually

TELL = "teller_tell"
WELL_KNOWN = "/.well-known/oauth-protected-resource"
OPEN_SECONDS = float(
    os.environ.get("E2E_OPEN_SECONDS", "600" if os.environ.get("E2E_LONG") else "90")
)
"""Seconds for which streams stay open: nginx and Traefik end silent exchanges after 60."""
CALLERS = 4
ACCEPT = "application/json, text/event-stream"

pytestmark = pytest.mark.timeout(OPEN_SECONDS + 900)


@dataclass(frozen=True)
class Story:
    """A proxy behind an entrance."""

    world: World
    doors: Doors
    reason: str
    """Reason of Exposed that the entrance brings about."""

    def http(self, credentials: str | None) -> httpx2.AsyncClient:
        """A client that trusts the entrance, with or without a token."""
        headers = {} if credentials is None else {"Authorization": f"Bearer {credentials}"}
        return httpx2.AsyncClient(headers=headers, verify=self.doors.trust, timeout=30)

    @asynccontextmanager
    async def client(self, credentials: str, mode: str, url: str = "") -> AsyncIterator[Client]:
        """A client of the SDK."""
        async with (
            self.http(credentials) as http,
            Client(
                streamable_http_client(url or self.doors.public_url, http_client=http), mode=mode
            ) as client,
        ):
            yield client


ENTRANCES = [
    "ingress",
    pytest.param("gateway", marks=pods.long),
]


@pytest.fixture(scope="module", params=ENTRANCES)
def story(
    request: pytest.FixtureRequest,
    new_world: Callable[[str], World],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Story]:
    """A proxy of two pods that is Ready and Exposed."""
    directory = tmp_path_factory.mktemp("entrance")
    directory.chmod(0o755)
    pair = exposure.certificate(directory)
    world = new_world("exposed")
    pods.tellers(world, "teller")
    pods.tellers(world, "issuer", program="issuer")
    with ExitStack() as stack:
        if request.param == "gateway":
            gateways = new_world("gateways")
            doors = stack.enter_context(exposure.traefik(world, gateways, pair))
            expose = {"parentRefs": [exposure.parent(gateways, "public")]}
            world.apply(_proxy(world, doors, expose))
            result = Story(world, doors, "RouteAccepted")
        else:
            ports = exposure.free_ports()
            doors = exposure.doors(ports, pair[0])
            world.apply(_proxy(world, doors, {"ingress": {"className": "nginx"}}))
            world.kubectl("wait", "--for=create", f"ingress/{NAME}", "--timeout=60s")
            stack.enter_context(exposure.nginx(world, ports, pair, directory))
            result = Story(world, doors, "AddressAssigned")
        world.wait_ready(NAME)
        eventually("both pods are Ready", lambda: ready_pods(world, NAME) == 2)
        for url in (doors.public_url, doors.stripping_url):
            reaches = partial(exposure.leads_to_pod, url, doors.public_url, doors.trust)
            eventually(f"{url} leads to the pods", reaches)
        yield result
    world.remove()


def _proxy(world: World, doors: Doors, expose: Object) -> Object:
    return pods.proxy(
        NAME,
        "teller",
        replicas=2,
        publicUrl=doors.public_url,
        expose=expose,
        service={"type": "NodePort"},
        authentication={
            "jwt": [{"issuer": issuer(world), "insecureHttp": True}],
            "serviceAccounts": {"audience": AUDIENCE},
        },
    )


@pytest.fixture
def credentials(story: Story) -> str:
    """A token of a ServiceAccount for an hour."""
    return token(story.world, "default")


def _exposed(story: Story) -> Object:
    conditions = story.world.status(NAME).get("conditions", [])
    result: Object = next(
        (condition for condition in conditions if condition["type"] == "Exposed"), {}
    )
    return result


def test_the_entrance_is_reported_with_its_addresses(story: Story) -> None:
    eventually("Exposed", lambda: _exposed(story).get("reason") == story.reason)
    assert _exposed(story)["status"] == "True"
    inner = {"type": "InCluster", "url": pods.url_of(story.world, NAME)}
    addresses = story.world.status(NAME)["addresses"]
    assert addresses == [{"type": "Public", "url": story.doors.public_url}, inner]
    wide = story.world.kubectl("get", "mcpproxies", NAME, "-o", "wide")
    assert story.doors.public_url in wide


async def test_the_metadata_names_the_public_url_at_both_doors(story: Story) -> None:
    async with story.http(None) as http:
        refused = await http.post(story.doors.public_url, json={})
        assert refused.status_code == 401
        base = story.doors.public_url.removesuffix(PATH)
        assert (
            f'resource_metadata="{base}{WELL_KNOWN}{PATH}"' in refused.headers["WWW-Authenticate"]
        )
        stripping = story.doors.stripping_url
        for url in (
            f"{base}{WELL_KNOWN}{PATH}",
            f"{story.doors.public_url}{WELL_KNOWN}",
            f"{stripping}{WELL_KNOWN}",
        ):
            result = await http.get(url)
            assert result.status_code == 200, url
            assert result.json()["resource"] == story.doors.public_url
        # Nothing else is exposed.
        for path in ("/", "/mcp", f"{PATH}/x", "/team", "/metrics", WELL_KNOWN):
            assert (await http.get(f"{base}{path}")).status_code == 404, path


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("door", ["public_url", "stripping_url"])
async def test_clients_of_both_eras_list_and_call_through_both_doors(
    story: Story, credentials: str, mode: str, door: str
) -> None:
    url: str = getattr(story.doors, door)
    async with story.client(credentials, mode, url) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == [TELL]
        await call(client, TELL)


async def test_a_token_for_the_public_url_is_accepted_and_one_for_another_is_not(
    story: Story,
) -> None:
    for audience, status in ((story.doors.public_url, 200), ("https://other.example.com", 401)):
        result = _signed_in(story, audience)
        async with story.http(result) as http:
            answer = await http.post(
                story.doors.public_url, json=_initialize(), headers={"Accept": ACCEPT}
            )
            assert answer.status_code == status, answer.text


async def test_streams_of_both_eras_stay_open(story: Story, credentials: str) -> None:
    async with story.http(credentials) as http, asyncio.TaskGroup() as group:
        begun = await http.post(
            story.doors.public_url, json=_initialize(), headers={"Accept": ACCEPT}
        )
        session = {"Mcp-Session-Id": begun.headers["Mcp-Session-Id"], "Accept": ACCEPT}
        group.create_task(_stays_open(http, "GET", story.doors.public_url, session, None))
        group.create_task(_stays_open(http, "POST", story.doors.public_url, _MODERN, _listen()))


async def test_a_rollout_loses_no_call_through_the_entrance(story: Story, credentials: str) -> None:
    over, calls = asyncio.Event(), [0] * (2 * CALLERS)

    async def keep_calling(number: int) -> None:
        async with story.client(credentials, MODES[number % 2]) as client:
            while not over.is_set():
                await call(client, TELL)
                calls[number] += 1

    async with asyncio.TaskGroup() as group:
        for number in range(2 * CALLERS):
            group.create_task(keep_calling(number))
        before = {item["metadata"]["uid"] for item in pods.pods_of(story.world, NAME)}
        template = {"podTemplate": {"annotations": {"rolled": str(time.time())}}}
        await asyncio.to_thread(story.world.patch, NAME, template)
        await asyncio.to_thread(story.world.wait_ready, NAME)
        after = {entry["metadata"]["uid"] for entry in pods.pods_of(story.world, NAME)}
        assert before.isdisjoint(after)
        done = sum(calls)
        while sum(calls) < done + 10 * CALLERS:
            await asyncio.sleep(0.1)
        over.set()
    assert min(calls) > 0
    print(f"{sum(calls)} calls, none failed")


def test_a_proxy_that_is_no_longer_exposed_has_no_route(story: Story) -> None:
    story.world.patch(NAME, {"expose": None})
    for kind in ("ingress", "httproute"):
        if story.reason == "RouteAccepted" or kind == "ingress":
            eventually(f"no {kind}", lambda kind=kind: story.world.find(kind, NAME) is None)  # type: ignore[misc]
    eventually("no condition", lambda: not _exposed(story))


def _signed_in(story: Story, audience: str) -> str:
    """A token of the OpenID provider, which takes its own URL from the Host header."""
    with story.world.forwarded("service/issuer", PORT) as port:
        host = issuer(story.world).removeprefix("http://")
        result = httpx2.get(
            f"http://127.0.0.1:{port}/token",
            params={"sub": "alice", "aud": audience},
            headers={"Host": host},
        )
    return result.text


def _initialize() -> Object:
    about = {"clientInfo": {"name": "story", "version": "1"}, "capabilities": {}}
    params = {"protocolVersion": "2025-11-25", **about}
    return {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}


_REVISION = "2026-07-28"
_META = "io.modelcontextprotocol/"
_MODERN = {
    "Accept": ACCEPT,
    "Mcp-Protocol-Version": _REVISION,
    "Mcp-Method": "subscriptions/listen",
}


def _listen() -> Object:
    meta = {
        f"{_META}protocolVersion": _REVISION,
        f"{_META}clientCapabilities": {},
        f"{_META}clientInfo": {"name": "story", "version": "1"},
    }
    params = {"notifications": {"toolsListChanged": True}, "_meta": meta}
    return {"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params}


async def _stays_open(
    http: httpx2.AsyncClient, method: str, url: str, headers: Any, message: Object | None
) -> None:
    """A stream that is open, and has not been silent, for OPEN_SECONDS."""
    chunks = 0
    content: Any = {} if message is None else {"json": message}
    begun = time.monotonic()
    async with http.stream(method, url, headers=headers, timeout=None, **content) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                async for _ in answer.aiter_bytes():
                    chunks += 1
        except TimeoutError:
            assert chunks > 0
            return
        except httpx2.TransportError as error:
            seconds = time.monotonic() - begun
            raise AssertionError(f"{method}: the stream broke after {seconds:.0f} s") from error
    raise AssertionError(f"{method}: the stream ended after {time.monotonic() - begun:.0f} s")
