"""Two agents, a person and a program use one proxy, and each of them sees what its rule allows.

All namespaces enforce the Pod Security level restricted.
"""

import json
import re
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from e2e import access, pods
from e2e.access import AGENT, FORECAST, NAME, Places, as_agent, initialize, post, sign_in, token
from e2e.clients import MODES, call
from e2e.pods import PORT, pods_of, ready_pods, url_of
from e2e.world import PROXIES, SERVICE_ACCOUNT, Object, World, eventually
from scripts.machine import CommandFailed

ROTATED_SECONDS = 120
WEATHER = {"compare_cities", "convert_temperature", "get_forecast", "list_cities", "survey"}
WEATHER_TOOLS = sorted(f"weather_{name}" for name in WEATHER)
NOTES_TOOLS = ["notes_add_note", "notes_search_notes"]
ARCHIVIST_TOOLS = ["counter_increment", "counter_read", "counter_reset", *NOTES_TOOLS]
OUTDATED = {
    "name": "outdated",
    "who": {"groups": ["dev"]},
    "may": [{"tools": ["weather_get_tide"]}],
}
API_TOKEN = "/var/run/secrets/kubernetes.io"


@pytest.fixture(scope="module")
def key() -> str:
    """The API key that the program has at first."""
    return secrets.token_hex(32)


@pytest.fixture(scope="module")
def places(new_world: Callable[[str], World], key: str) -> Iterator[Places]:
    """A proxy of two pods, Ready, and both agents; the OpenID provider is not there yet."""
    result = Places(*map(new_world, ("access", "forecaster", "archivist")))
    for world in result:
        level = "pod-security.kubernetes.io/enforce=restricted"
        world.cluster.kubectl("label", "namespace", world.namespace, level)
    result.proxy.kubectl("apply", "-f", "samples/demo-backends.yaml")
    access.store(result.proxy, key)
    result.proxy.apply(access.proxy(result, OUTDATED))
    for world in (result.forecaster, result.archivist):
        access.start_agent(world)
    result.proxy.wait_ready(NAME)
    eventually("both pods are Ready", lambda: ready_pods(result.proxy, NAME) == 2)
    for world in (result.forecaster, result.archivist):
        world.kubectl("wait", "--for=condition=Ready", f"pod/{AGENT}", "--timeout=60s")
    yield result
    for world in result:
        world.remove()


@pytest.fixture
def url(places: Places) -> Iterator[str]:
    """The endpoint, as reached from this machine through its Service."""
    with places.proxy.forwarded(f"service/{NAME}") as port:
        yield f"http://127.0.0.1:{port}/mcp"


@contextmanager
def _each_pod(world: World) -> Iterator[list[str]]:
    """The endpoints of the two pods, as reached from this machine."""
    with ExitStack() as stack:
        targets = [f"pod/{pod['metadata']['name']}" for pod in pods_of(world, NAME)]
        ports = [stack.enter_context(world.forwarded(target, PORT)) for target in targets]
        first, second = ports
        yield [f"http://127.0.0.1:{port}/mcp" for port in (first, second)]


@pytest.mark.parametrize("mode", MODES)
def test_agents_of_two_namespaces_see_and_use_different_tools(places: Places, mode: str) -> None:
    forecast = (FORECAST, {"city": "Oslo", "day": 2})
    search = ("notes_search_notes", {"text": "coffee"})
    result = as_agent(places.forecaster, places.proxy, mode, forecast)
    assert result["tools"] == WEATHER_TOOLS
    assert json.loads(result["answers"][0])["city"] == "Oslo"
    result = as_agent(places.archivist, places.proxy, mode, search)
    assert result["tools"] == ARCHIVIST_TOOLS
    assert result["answers"] == ["shopping"]


@pytest.mark.parametrize("mode", MODES)
def test_a_denied_tool_gets_the_same_response_as_an_unknown_tool(places: Places, mode: str) -> None:
    names = ("notes_search_notes", "notes_no_such_tool", "no_such_backend")
    calls = [(name, {"text": "coffee"}) for name in names]
    result = as_agent(places.forecaster, places.proxy, mode, *calls)
    denial, *others = [
        json.loads(json.dumps(answer).replace(name, "NAME"))
        for name, answer in zip(names, result["answers"], strict=True)
    ]
    assert denial["code"] == -32602
    assert others == [denial, denial]


def test_a_request_without_credentials_is_led_to_the_metadata_through_the_service(
    places: Places,
) -> None:
    endpoint = url_of(places.proxy, NAME)
    response = access.in_agent(places.archivist, "stranger", endpoint)
    assert response["status"] == 401
    assert response["challenge"].startswith("Bearer ")
    assert response["metadata"]["resource"] == endpoint
    assert response["metadata"]["authorization_servers"] == [access.issuer(places.proxy)]


async def test_a_token_counts_for_its_audience_and_its_service_account_only(
    places: Places, url: str
) -> None:
    own = token(places.forecaster, AGENT)
    assert await access.tools(url, own) == WEATHER_TOOLS
    forgery = own[:-8] + own[-8:][::-1]
    others = [token(places.forecaster, AGENT, audience) for audience in ("", "other.example.dev")]
    for credentials in (forgery, *others):
        assert initialize(url, credentials).status_code == 401
    # One rule names the ServiceAccount, and the other all those of the namespace.
    assert await access.tools(url, token(places.forecaster, "default")) == []
    assert await access.tools(url, token(places.archivist, "default")) == ARCHIVIST_TOOLS


def test_another_pod_continues_a_session_only_for_its_service_account(
    places: Places,
) -> None:
    own, same = (token(places.archivist, AGENT) for _ in range(2))
    other = token(places.archivist, "default")
    increment: Object = {"name": "counter_increment", "arguments": {}}
    with _each_pod(places.proxy) as urls:
        session = initialize(urls[0], own).headers["Mcp-Session-Id"]
        turns = [(entry, credentials) for credentials in (own, same) for entry in urls]
        for number, (item, credentials) in enumerate(turns, 1):
            response = post(item, credentials, "tools/call", increment, session)
            assert response.status_code == 200
            assert re.search(rf'"count": ?{number}\b', response.text), response.text
        for item in urls:
            assert post(item, other, "tools/call", increment, session).status_code == 404


async def test_a_condition_on_arguments_is_evaluated_in_the_image(url: str, key: str) -> None:
    async with (
        access.http_client(key) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        assert [tool.name for tool in (await client.list_tools()).tools] == [FORECAST]
        assert (await call(client, FORECAST, city="Rome"))["city"] == "Rome"
        with pytest.raises(MCPError) as error:
            await client.call_tool(FORECAST, {"city": "Bergen"})
        assert error.value.error.code == -32602


def test_a_mistake_in_a_condition_is_shown_with_its_position(places: Places) -> None:
    name, result = "mistaken", access.proxy(places)
    result["metadata"]["name"] = name
    result["spec"]["authorization"]["rules"][0]["when"] = "args.city =="
    places.proxy.apply(result)
    condition = _wait_condition(places.proxy, "Accepted", "False", name)
    assert "spec.authorization.rules[0].when: " in condition["message"]
    assert "line 1, column 13" in condition["message"]
    assert places.proxy.find("deployment", name) is None
    places.proxy.kubectl("delete", PROXIES, name)


async def test_people_sign_in_as_soon_as_the_keys_of_their_provider_are_known(
    places: Places, url: str
) -> None:
    world = places.proxy
    condition = _wait_condition(world, "AuthenticationReady", "False")
    assert condition["reason"] == "KeysUnavailable"
    assert access.issuer(world) in condition["message"]
    assert _described(world, "AuthenticationReady") == ("KeysUnavailable", "False")
    row = world.kubectl("get", PROXIES, NAME, "--no-headers").split()
    assert row[:4] == [NAME, "True", "Serving", "3/3"]
    audience = url_of(world, NAME)
    forgery = access.forge(places, sub="alice", groups="dev", aud=audience)
    assert initialize(url, forgery).status_code == 503

    pods.tellers(world, "issuer", program="issuer")
    condition = _wait_condition(world, "AuthenticationReady", "True")
    assert condition["reason"] == "KeysKnown"
    for part in (f"{access.issuer(world)} (1)", "serviceAccounts (", "apiKeys (1)"):
        assert part in condition["message"]
    assert _described(world, "AuthenticationReady") == ("KeysKnown", "True")
    alice = sign_in(places, sub="alice", groups="dev", aud=audience)
    assert await access.tools(url, alice) == NOTES_TOOLS
    assert await access.tools(url, sign_in(places, sub="bob", aud=audience)) == []
    other = sign_in(places, sub="alice", groups="dev", aud="https://other.example.dev/mcp")
    assert [initialize(url, item).status_code for item in (forgery, other)] == [401, 401]


def test_a_rule_that_covers_nothing_is_named_until_it_is_removed(places: Places) -> None:
    world = places.proxy
    condition = _wait_condition(world, "RulesUnused", "True")
    assert condition["reason"] == "RulesCoverNothing"
    assert ": outdated: may[0];" in condition["message"]
    assert _described(world, "RulesUnused") == ("RulesCoverNothing", "True")
    world.patch(NAME, {"authorization": {"rules": access.rules(places)}})
    world.wait_ready(NAME)
    assert _wait_condition(world, "RulesUnused", "False")["reason"] == "RulesCoverComponents"
    assert _described(world, "RulesUnused") == ("RulesCoverComponents", "False")


def test_a_replaced_api_key_and_its_streams_end_at_all_pods_with_no_restart(
    places: Places, key: str
) -> None:
    world = places.proxy
    eventually("two pods are left", lambda: len(pods_of(world, NAME)) == 2)
    before = _identities(world)
    with ThreadPoolExecutor() as pool, _each_pod(world) as urls:
        sessions = [initialize(entry, key).headers["Mcp-Session-Id"] for entry in urls]
        streams = [pool.submit(_listen, *each, key) for each in zip(urls, sessions, strict=True)]
        another = secrets.token_hex(32)
        access.store(world, another)
        begun = time.monotonic()

        def is_replaced() -> bool:
            return all(initialize(element, key).status_code == 401 for element in urls)

        eventually("all pods refuse the old key", is_replaced, ROTATED_SECONDS)
        print(f"the old key ended within {time.monotonic() - begun:.0f} s")
        for stream in streams:
            stream.result(timeout=10)
        assert {initialize(value, another).status_code for value in urls} == {200}
        for item, session in zip(urls, sessions, strict=True):
            assert post(item, another, "tools/list", {}, session).status_code == 200
    assert _identities(world) == before


def _listen(url: str, session: str, key: str) -> None:
    """Read the notifications of a session to their end."""
    sent = access.headers(key, session)
    with httpx2.stream("GET", url, headers=sent, timeout=ROTATED_SECONDS + 20) as response:
        assert response.status_code == 200
        response.read()


@pytest.mark.parametrize("verb", ["get", "list", "watch"])
def test_neither_the_operator_nor_the_pods_may_read_secrets(places: Places, verb: str) -> None:
    world = places.proxy
    assert not world.may(SERVICE_ACCOUNT, verb, "secrets")
    assert not world.may(f"system:serviceaccount:{world.namespace}:{NAME}", verb, "secrets")


def test_the_pods_of_the_proxy_have_no_token_of_the_api_server(places: Places) -> None:
    [item, *others] = pods_of(places.proxy, NAME)
    for pod in (item, *others):
        assert pod["spec"]["automountServiceAccountToken"] is False
        projected = [
            source
            for volume in pod["spec"]["volumes"]
            for source in volume.get("projected", {}).get("sources", [])
        ]
        assert not any("serviceAccountToken" in source for source in projected)
    with pytest.raises(CommandFailed, match="No such file"):
        places.proxy.kubectl("exec", item["metadata"]["name"], "--", "ls", API_TOKEN)


def _wait_condition(world: World, kind: str, status: str, name: str = NAME) -> Object:
    """A condition, once it has this status."""

    def reached() -> Object:
        conditions = {item["type"]: item for item in world.status(name).get("conditions", [])}
        condition: Object = conditions.get(kind, {})
        return condition if condition.get("status") == status else {}

    return eventually(f"{kind} is {status}", reached, 90)


def _described(world: World, kind: str) -> tuple[str, str]:
    """Reason and status of a condition, as kubectl describe shows them."""
    text = world.kubectl("describe", PROXIES, NAME)
    match = re.search(rf"Reason: +(\S+)\n +Status: +(\S+)\n +Type: +{kind}\n", text)
    assert match is not None, text
    return match[1], match[2]


def _identities(world: World) -> set[tuple[str, int]]:
    return {
        (pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"])
        for pod in pods_of(world, NAME)
    }
