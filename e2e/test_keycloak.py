"""People and programs sign in with Keycloak, as docs/keycloak.md describes it.

The tests follow one another: the later ones stop Keycloak and replace its keys.
"""

import os
import ssl
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from e2e import access, exposure, pods, provider, realm
from e2e.access import FORECAST
from e2e.clients import call
from e2e.desktop import Desktop
from e2e.pods import PORT, manifest
from e2e.realm import CALLBACK, HASTY, NAME, Realm, claims
from e2e.world import PROXIES, Object, World, eventually, steadily
from scripts import keycloak, npm
from scripts.keycloak_admin import AGENT, ELSEWHERE
from scripts.machine import CommandFailed
from tests.peers.sdk_sign_in import interactive, list_tools

READING_ROOM = "reading-room"
MOVED = "wiki"
GATEWAY_HEADER = "X-Auth-Request-User"
CITIES = "weather_list_cities"
DECISION_SECONDS = 10
DOWN_SECONDS = 300 if os.environ.get("E2E_LONG") else 60
ROTATED_SECONDS = 60
WEATHER_TOOLS = [
    "weather_compare_cities",
    "weather_convert_temperature",
    "weather_get_forecast",
    "weather_list_cities",
    "weather_survey",
]
COUNTER_TOOLS = ["counter_increment", "counter_read", "counter_reset"]
INCREMENT = "counter_increment"

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def people(
    new_world: Callable[[str], World], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Realm]:
    """Keycloak, and the proxy that trusts its realm."""
    keycloak.install()
    npm.install()
    begun = time.monotonic()
    directory = tmp_path_factory.mktemp("keycloak")
    result = realm.create(new_world, directory)
    result.world.cluster.load([keycloak.build_image(result.world.cluster.env)])
    print(f"the image was in the cluster after {time.monotonic() - begun:.0f} s")
    provider.wait(result.world)
    print(f"Keycloak started in {provider.start_seconds(result.world):.0f} s")
    result.follow("run: keycloak")
    result.world.wait_ready(NAME)
    yield result
    result.world.remove()


@pytest.fixture(params=["public_url", "stripping_url"])
def exposed(
    people: Realm, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[str, Desktop]]:
    """The public URL of a proxy behind an Ingress, and a user whose programs trust it.

    At the second URL, the Ingress removes the first segment of the endpoint's path.
    """
    pair, ports = exposure.certificate(tmp_path), exposure.free_ports()
    doors = exposure.doors(ports, pair[0])
    url: str = getattr(doors, request.param)
    people.world.apply(people.exposed_proxy(exposure.NAME, url))
    people.world.kubectl("wait", "--for=create", f"ingress/{exposure.NAME}", "--timeout=60s")
    trusted, own = tmp_path / "trusted.crt", people.keycloak.authorities
    assert own is not None
    trusted.write_bytes(own.read_bytes() + pair[0].read_bytes())
    with exposure.nginx(people.world, ports, pair, tmp_path):
        people.world.wait_ready(exposure.NAME)
        reaches = partial(exposure.leads_to_pod, url, url, doors.trust)
        eventually("the entrance leads to the pod", reaches)
        yield url, Desktop(tmp_path / "home", people.keycloak, trusted)
    people.world.kubectl("delete", PROXIES, exposure.NAME)


async def test_a_program_gets_the_tools_of_its_groups(people: Realm) -> None:
    [printed] = people.follow("run: token")
    token = printed.strip()
    assert claims(token)["groups"] == ["ops"]
    assert await access.tools(people.url, token) == COUNTER_TOOLS
    assert await access.tools(people.url, people.keycloak.token()) == COUNTER_TOOLS


async def test_people_sign_in_with_mcp_remote_and_get_another_scope_when_they_need_it(
    people: Realm,
) -> None:
    before = len(people.desktop.pages())
    async with people.desktop.mcp_remote(people.url) as client:
        assert sorted(tool.name for tool in (await client.list_tools()).tools) == WEATHER_TOOLS
        assert (await call(client, FORECAST, city="Oslo", day=1))["city"] == "Oslo"
        assert len(people.desktop.pages()) == before + 1
        assert (await call(client, INCREMENT))["count"] == 1
    first, second = people.desktop.pages()[before:]
    assert first.startswith(people.keycloak.issuer)
    assert "tools%3Awrite" not in first
    assert "tools%3Awrite" in second


async def test_people_sign_in_with_mcp_remote_through_an_ingress_with_tls(
    people: Realm, exposed: tuple[str, Desktop]
) -> None:
    url, desktop = exposed
    assert desktop.authorities is not None
    trust = ssl.create_default_context(cafile=desktop.authorities)
    with httpx2.Client(verify=trust) as http:
        refused = http.post(url, json={})
        challenge = refused.headers["WWW-Authenticate"].split('resource_metadata="')[1]
        metadata = http.get(challenge.split('"')[0]).json()
    assert metadata["resource"] == url
    assert metadata["authorization_servers"] == [people.keycloak.issuer]
    async with desktop.mcp_remote(url) as client:
        assert sorted(tool.name for tool in (await client.list_tools()).tools) == WEATHER_TOOLS
        assert (await call(client, FORECAST, city="Oslo", day=1))["city"] == "Oslo"
    [page] = desktop.pages()
    assert page.startswith(people.keycloak.issuer)
    assert parse_qs(urlsplit(page).query)["resource"] == [url]


def test_the_inspector_signs_in_as_the_client_of_the_page(people: Realm) -> None:
    before = len(people.desktop.pages())
    listed = people.desktop.inspect(people.url, "--method", "tools/list")
    assert sorted(tool["name"] for tool in listed["tools"]) == WEATHER_TOOLS
    assert len(people.desktop.pages()) == before + 1


async def test_a_change_of_groups_takes_effect_with_the_next_token(people: Realm) -> None:
    storage = people.client()
    auth = interactive(people.url, storage, people.desktop.browse, CALLBACK)

    async def listed() -> list[str]:
        return await list_tools(people.url, auth, verify=people.keycloak.tls())

    assert await listed() == WEATHER_TOOLS
    people.keycloak.join("alice", "ops")
    people.keycloak.join("alice", "dev", leave=True)
    assert await listed() == WEATHER_TOOLS
    auth.context.token_expiry_time = 1.0
    assert await listed() == COUNTER_TOOLS
    people.keycloak.join("alice", "dev")
    people.keycloak.join("alice", "ops", leave=True)
    assert storage.steps == ["browser", "token", "token"]


async def test_the_python_sdk_gets_the_scope_that_a_call_needs_within_its_session(
    people: Realm,
) -> None:
    storage = people.client()
    auth = interactive(people.url, storage, people.desktop.browse, CALLBACK)
    async with (
        httpx2.AsyncClient(auth=auth, timeout=90, verify=people.keycloak.tls()) as http,
        Client(streamable_http_client(people.url, http_client=http)) as client,
    ):
        assert (await call(client, FORECAST, city="Oslo", day=1))["city"] == "Oslo"
        assert storage.steps == ["browser", "token"]
        assert (await call(client, INCREMENT))["count"] == 1
        assert storage.steps == ["browser", "token"] * 2
        assert storage.tokens is not None
        assert "tools:write" in claims(storage.tokens.access_token)["scope"].split()


def test_only_access_tokens_of_the_realm_for_this_proxy_are_accepted(people: Realm) -> None:
    issued = people.grant_password()
    assert people.statuses(issued["access_token"]) == {200}
    for kind in ("id_token", "refresh_token"):
        assert "the token is not an access token" in people.refusal(issued[kind])
    for_another = people.keycloak.token(ELSEWHERE)
    assert "the token was not issued for this resource" in people.refusal(for_another)
    of_another_realm = people.keycloak.administrator_token()
    assert "the issuer of the token is not accepted" in people.refusal(of_another_realm)


def test_the_log_of_the_proxy_names_the_claims_for_which_tokens_are_refused(people: Realm) -> None:
    people.refusal(people.keycloak.token(ELSEWHERE))
    people.refusal(people.keycloak.administrator_token())
    selector = f"app.kubernetes.io/instance={NAME}"
    log = people.world.kubectl("logs", "-l", selector, "--tail=-1").replace("\\", "")
    assert f'lacks publicUrl "{people.url}"' in log
    assert f'iss is "{people.keycloak.origin}/realms/master"' in log
    assert f'["{people.keycloak.issuer}"]' in log


def test_mistakes_about_the_issuer_are_named_with_the_value_and_the_remedy(people: Realm) -> None:
    world, issuer = people.world, people.keycloak.issuer
    service = f"http://keycloak.{world.namespace}.svc:{provider.HTTP}/realms/agents"
    authority = {"caFrom": {"configMapKeyRef": {"name": provider.AUTHORITY, "key": "ca.crt"}}}
    other = f'the metadata names another issuer, "{issuer}"'
    mistakes: dict[str, tuple[Object, str]] = {
        "slash": ({"issuer": f"{issuer}/", **authority}, other),
        "service": ({"issuer": service, "insecureHttp": True}, other),
        "authority": ({"issuer": issuer}, "name the authority of the certificate in caFrom"),
        "realm": (
            {"issuer": f"{issuer}2", **authority},
            "HTTP 404; no metadata of this issuer is there: correct issuer",
        ),
    }
    for name, (entry, _) in mistakes.items():
        world.apply(_mistaken(people, name, entry))
    for name, (_, words) in mistakes.items():

        def message(name: str = name) -> str:
            condition = people.condition("AuthenticationReady", name)
            return str(condition["message"]) if condition.get("status") == "False" else ""

        assert words in eventually(f"the mistake of {name} is named", message, 90)
    with pytest.raises(
        CommandFailed, match="issuer must be https; http is only for a host such as"
    ):
        world.apply(_mistaken(people, "plain", {"issuer": service}))
    world.kubectl("delete", PROXIES, *mistakes)


def _mistaken(people: Realm, name: str, issuer: Object) -> Object:
    spec = {
        "publicUrl": people.url,
        "authentication": {"jwt": [issuer]},
        "backends": [{"name": "weather", "service": {"name": "weather", "port": PORT}}],
    }
    return manifest("mcpproxy.dev/v1alpha1", "MCPProxy", name, spec)


def test_a_sign_out_ends_the_refreshing_and_not_the_tokens_that_were_issued(people: Realm) -> None:
    issued = people.grant_password()
    people.keycloak.log_out("alice")
    assert people.statuses(issued["access_token"]) == {200}
    refresh = {"grant_type": "refresh_token", "refresh_token": issued["refresh_token"]}
    with pytest.raises(HTTPError, match="400"):
        people.keycloak.grant(**refresh, client_id=HASTY[0], client_secret=HASTY[1])


@pytest.fixture(scope="module")
def reading_room(people: Realm) -> Iterator[str]:
    """Another proxy, which anonymous callers may use; it gets keys from the Service of Keycloak.

    A service has the last word on its calls.
    """
    pods.tellers(people.world, "decider", program="decider")
    people.world.apply(_reading_room(people))
    people.world.wait_ready(READING_ROOM)
    eventually(
        "the keys are known",
        lambda: people.condition("AuthenticationReady", READING_ROOM).get("status") == "True",
    )
    with people.world.forwarded(f"service/{READING_ROOM}") as port:
        yield f"http://127.0.0.1:{port}/mcp"


def _reading_room(people: Realm) -> Object:
    """An MCPProxy with roles instead of groups, and keys of another host than the issuer's."""
    service = f"http://keycloak.{people.world.namespace}.svc:{provider.HTTP}"
    issuer = {
        "issuer": people.keycloak.issuer,
        "jwksUrl": f"{service}/realms/agents/protocol/openid-connect/certs",
        "insecureHttp": True,
        "audiences": [people.url],
        "claims": {"groups": "realm_access.roles"},
    }
    everyone = {"name": "everyone", "who": {"any": True}, "may": [{"tools": [CITIES]}]}
    auditors = {"name": "auditors", "who": {"groups": ["auditor"]}, "may": [{"tools": [FORECAST]}]}
    decider = f"http://decider.{people.world.namespace}.svc:{PORT}/decide"
    external = {"url": decider, "timeout": "500ms", "onFailure": "Deny"}
    spec = {
        "authentication": {"mode": "Optional", "jwt": [issuer]},
        "authorization": {"rules": [everyone, auditors], "external": external},
        "backends": [{"name": "weather", "service": {"name": "weather", "port": PORT}}],
    }
    return manifest("mcpproxy.dev/v1alpha1", "MCPProxy", READING_ROOM, spec)


async def test_anonymous_callers_and_roles_have_their_own_tools(
    people: Realm, reading_room: str
) -> None:
    async with Client(reading_room) as anonymous:
        assert [tool.name for tool in (await anonymous.list_tools()).tools] == [CITIES]
        assert "Oslo" in str(await call(anonymous, CITIES))
    assert await access.tools(reading_room, people.keycloak.token()) == [FORECAST, CITIES]
    people.refusal("eyJ.eyJ.x", reading_room)


async def test_a_service_decides_about_calls_and_its_silence_counts_as_configured(
    people: Realm, reading_room: str
) -> None:
    async with (
        access.http_client(people.keycloak.token()) as http,
        Client(streamable_http_client(reading_room, http_client=http)) as client,
    ):
        assert (await call(client, FORECAST, city="Oslo", day=1))["city"] == "Oslo"
        for city in ("Bergen", "Rome"):
            begun = time.monotonic()
            with pytest.raises(MCPError) as error:
                await client.call_tool(FORECAST, {"city": city, "day": 1})
            assert error.value.error.code == -32602
            assert time.monotonic() - begun < DECISION_SECONDS
    people.world.patch(READING_ROOM, {"authorization": {"external": {"onFailure": "Allow"}}})
    people.world.wait_ready(READING_ROOM)
    with people.world.forwarded(f"service/{READING_ROOM}") as port:
        async with (
            access.http_client(people.keycloak.token()) as http,
            Client(
                streamable_http_client(f"http://127.0.0.1:{port}/mcp", http_client=http)
            ) as client,
        ):
            assert (await call(client, FORECAST, city="Rome", day=1))["city"] == "Rome"
            with pytest.raises(MCPError):
                await client.call_tool(FORECAST, {"city": "Bergen", "day": 1})


def test_users_behind_a_gateway_move_to_tokens_in_two_steps(people: Realm) -> None:
    world = people.world
    served = {"backends": [{"name": "weather", "service": {"name": "weather", "port": PORT}}]}
    before = {"principalFrom": {"header": GATEWAY_HEADER}, **served}
    world.apply(manifest("mcpproxy.dev/v1alpha1", "MCPProxy", MOVED, before))
    assert _callers(people) == {"by name": 200, "by token": 401, "by both": 200, "by neither": 401}
    people.follow("run: moving", "moving.md")
    assert _callers(people) == dict.fromkeys(("by name", "by token", "by both", "by neither"), 200)
    people.follow("run: required", "moving.md")
    assert _callers(people) == {"by name": 401, "by token": 200, "by both": 200, "by neither": 401}


def _callers(people: Realm) -> dict[str, int]:
    """The statuses of callers of the proxy that moves, once it is Ready."""
    people.world.wait_ready(MOVED)
    named = {GATEWAY_HEADER: "alice"}
    verified = {"Authorization": f"Bearer {people.keycloak.token()}"}
    sent = {"by name": named, "by token": verified, "by both": named | verified, "by neither": {}}
    with people.world.forwarded(f"service/{MOVED}") as port:
        url = f"http://127.0.0.1:{port}/mcp"
        return {how: access.initialize_with(url, item).status_code for how, item in sent.items()}


def test_tokens_are_served_while_keycloak_is_down_and_the_status_names_the_outage(
    people: Realm,
) -> None:
    known, unseen, brief = (people.keycloak.token(item) for item in (AGENT, AGENT, HASTY))
    assert people.statuses(known) == people.statuses(brief) == {200}
    provider.scale(people.world, 0)
    begun = time.monotonic()

    def is_named() -> bool:
        assert people.statuses(known, 1) == {200}
        return people.condition("AuthenticationReady").get("reason") == "KeysNotRead"

    eventually("the status names the outage", is_named, 90)
    print(f"the status named the outage after {time.monotonic() - begun:.0f} s")
    condition = people.condition("AuthenticationReady")
    assert condition["status"] == "False"
    assert people.keycloak.issuer in condition["message"]
    assert "are used for up to a day" in condition["message"]
    assert people.condition("Ready")["status"] == "True"
    left = DOWN_SECONDS - (time.monotonic() - begun)
    steadily("the token is served", lambda: people.statuses(known, 1) == {200}, left)
    assert people.statuses(unseen) == {200}
    eventually("the brief token expires", lambda: people.statuses(brief, 1) == {401}, 30)
    assert "the token expired" in people.refusal(brief)
    provider.scale(people.world, 1)
    eventually(
        "the status is as before",
        lambda: people.condition("AuthenticationReady").get("reason") == "KeysKnown",
        90,
    )
    assert people.statuses(known) == people.statuses(people.keycloak.token()) == {200}


def test_a_token_of_a_removed_key_is_refused_within_a_minute_and_new_ones_are_served_at_once(
    people: Realm,
) -> None:
    before = people.keycloak.token()
    assert people.statuses(before) == {200}
    people.keycloak.rotate_keys()
    begun = time.monotonic()
    assert people.statuses(people.keycloak.token()) == {200}
    eventually("the token is refused", lambda: people.statuses(before) == {401}, ROTATED_SECONDS)
    print(f"the removed key ended after {time.monotonic() - begun:.0f} s")
    assert people.statuses(people.keycloak.token()) == {200}


def test_keycloak_has_used_no_more_memory_than_documented(people: Realm) -> None:
    used = provider.peak_memory(people.world) >> 10
    print(f"Keycloak used {used} MiB")
    assert used < provider.MEMORY_MEBIBYTES
