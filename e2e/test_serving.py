"""A user applies samples/demo.yaml and calls tools of three servers through one URL."""

import asyncio

import pytest
from mcp import Client, StdioServerParameters
from mcp_types import PromptReference, ReadResourceResult, TextResourceContents

from e2e import clients
from e2e.clients import MODES, call
from e2e.world import PROXIES, World

SERVERS = ("weather", "counter", "notes")


@pytest.mark.parametrize("mode", MODES)
async def test_the_python_client_uses_all_three_backends_through_the_service(
    demo_url: str, mode: str
) -> None:
    async with Client(demo_url, mode=mode) as client:
        if mode != "legacy":
            assert client.protocol_version == mode
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert {name.partition("_")[0] for name in tools} == set(SERVERS)
        forecast = await call(client, "weather_get_forecast", city="Oslo", day=2)
        assert (forecast["city"], forecast["day"]) == ("Oslo", 2)
        assert (await call(client, "counter_increment", by=7))["count"] == 7
        result = await call(client, "notes_search_notes", text="coffee")
        assert result == {"result": ["shopping"]}


@pytest.mark.parametrize("mode", MODES)
async def test_prompts_resources_and_completions_reach_their_backend(
    demo_url: str, mode: str
) -> None:
    async with Client(demo_url, mode=mode) as client:
        prompt = await client.get_prompt("notes_summarize", {"title": "shopping"})
        assert "olives" in str(prompt.messages)
        packing = PromptReference(name="weather_packing_list")
        completed = await client.complete(packing, {"name": "city", "value": "be"})
        assert completed.completion.values == ["Berlin", "Bergen"]
        uris = {str(resource.uri) for resource in (await client.list_resources()).resources}
        assert "notes://notes/count" in uris
        count = await client.read_resource("notes://notes/count")
        assert isinstance(count, ReadResourceResult)
        assert isinstance(count.contents[0], TextResourceContents)
        assert count.contents[0].text == "4"


@pytest.mark.parametrize("mode", MODES)
def test_the_typescript_client_uses_all_three_backends_through_the_service(
    demo_url: str, mode: str
) -> None:
    result = clients.npm_client(demo_url, mode)
    if mode != "legacy":
        assert result["revision"] == mode
    assert {name.partition("_")[0] for name in result["tools"]} == set(SERVERS)
    assert result["forecast"]["city"] == "Oslo"
    assert result["count"]["count"] == 3
    assert result["notes"] == {"result": ["shopping"]}


async def test_counts_in_the_status_are_those_of_the_backends_themselves(
    demo: World, demo_url: str
) -> None:
    direct = {}
    for name in ("weather", "counter"):
        with demo.forwarded(f"service/{name}", 8080) as port:
            direct[name] = (await clients.catalog(f"http://127.0.0.1:{port}/mcp")).counts()
    inside = ("exec", "-i", "deployment/demo", "--", "python", "samples/servers/notes.py")
    command = demo.cluster.command("-n", demo.namespace, *inside)
    notes = StdioServerParameters(command=command[0], args=command[1:], env=demo.cluster.env)
    direct["notes"] = (await clients.catalog(notes)).counts()

    status = demo.status("demo")
    assert {backend["name"]: backend["components"] for backend in status["backends"]} == direct
    totals = {kind: sum(counts[kind] for counts in direct.values()) for kind in direct["notes"]}
    assert status["components"] == totals
    assert (await clients.catalog(demo_url)).counts() == totals
    row = demo.kubectl("get", PROXIES, "demo", "--no-headers").split()
    assert row[:5] == ["demo", "True", "Serving", "3/3", str(totals["tools"])]


@pytest.mark.parametrize("mode", MODES)
async def test_two_clients_at_once_never_see_each_others_counter(demo_url: str, mode: str) -> None:
    async def counts(by: int) -> list[int]:
        async with Client(demo_url, mode=mode) as client:
            answers = [await call(client, "counter_increment", by=by) for _ in range(8)]
            return [answer["count"] for answer in answers]

    small, big = await asyncio.gather(counts(1), counts(1000))
    if mode == "legacy":
        assert small == [1, 2, 3, 4, 5, 6, 7, 8]
        assert big == [1000 * count for count in small]
    else:
        # Without a session of its own, a client starts anew with every call.
        assert small == [1] * 8
        assert big == [1000] * 8


def test_the_catalog_does_not_depend_on_the_era_of_the_client(demo_url: str) -> None:
    legacy, modern = (asyncio.run(clients.catalog(demo_url, mode)) for mode in MODES)
    assert legacy == modern
