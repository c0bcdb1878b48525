"""Access to servers of the library: callers, rules, transforms and records."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
import yaml
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.server import MCPServer
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken

from mcpproxy import Identity, Proxy, ProxyClient, ProxyProvider, Server, create_proxy, mount
from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.api.v1alpha1 import Audit, Authorization
from mcpproxy.library.access import identity_of_request
from tests.library.conftest import ERAS, served, text
from tests.proxy.runtime.issuing import PUBLIC_URL, issuing
from tests.proxy.runtime.serving import serving
from tests.proxy.runtime.shelf import PROMPTS, RESOURCES, TEMPLATES, TOOLS, Shelf
from tests.support.builders import a_manifest

pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
DEV = Identity("jwt", issuer="https://i", subject="ann", groups=frozenset({"dev"}))
OPS = Identity("jwt", issuer="https://i", subject="bob", groups=frozenset({"ops"}))
NOBODY = Identity("anonymous")
RULES: dict[str, Any] = {
    "rules": [
        {
            "name": "developers",
            "who": {"groups": ["dev"]},
            "may": [
                {
                    "tools": ["get_a", "set_a"],
                    "prompts": ["ask"],
                    "resources": ["file:///pub/*"],
                    "resourceTemplates": ["note://{id}"],
                }
            ],
        },
        {"name": "operators", "who": {"groups": ["ops"]}, "may": [{"backends": ["*"]}]},
    ]
}
SEEN: dict[str, dict[str, list[str]]] = {
    "ann": {
        "tools": ["get_a", "set_a"],
        "prompts": ["ask"],
        "resources": ["file:///pub/a", "file:///pub/off", "file:///pub/secret"],
        "resource_templates": ["note://{id}"],
    },
    "bob": {
        "tools": [*TOOLS],
        "prompts": [*PROMPTS],
        "resources": [*RESOURCES],
        "resource_templates": [*TEMPLATES],
    },
    "": {"tools": [], "prompts": [], "resources": [], "resource_templates": []},
}
KINDS = tuple(SEEN["ann"])


@pytest.fixture
async def shelf() -> AsyncIterator[str]:
    async with serving(Shelf().gate) as base:
        yield f"{base}/mcp"


async def in_process(server: Server, kind: str, identity: Identity) -> list[str]:
    """Return the program's own list on behalf of a caller."""
    result = await getattr(server, f"list_{kind}")(identity=identity)
    return [component.identifier for component in result]


def sources(url: str) -> dict[str, Any]:
    """Proxies of each sort in front of one server, with the same rules."""
    mounted = Server(authorization=RULES)
    mounted.mount(url)
    provided = Server(authorization=RULES)
    provided.add_provider(ProxyProvider(lambda: ProxyClient(url), cache_ttl=300))
    return {
        "create_proxy": create_proxy(url, authorization=RULES),
        "models": create_proxy(url, authorization=Authorization.model_validate(RULES)),
        "factory": Proxy(client_factory=lambda: ProxyClient(url), authorization=RULES),
        "mount": mounted,
        "provider": provided,
    }


@pytest.mark.parametrize("source", ["create_proxy", "models", "factory", "mount", "provider"])
async def test_lists_and_calls_of_a_program_obey_the_rules(shelf: str, source: str) -> None:
    server = sources(shelf)[source]
    async with server:
        for _ in range(2):
            # The second time, the lists come from the cache.
            for identity in (OPS, DEV, NOBODY):
                for kind in KINDS:
                    wanted = SEEN[identity.subject][kind]
                    assert sorted(await in_process(server, kind, identity)) == sorted(wanted)
        result = await server.call_tool("get_a", identity=DEV)
        assert text(result) == "get_a"
        for identity, name in ((DEV, "get_off"), (NOBODY, "get_a")):
            with pytest.raises(MCPError, match=f"unknown tool: {name}"):
                await server.call_tool(name, identity=identity)
        with pytest.raises(LookupError):
            await server.get_prompt("ask_admin", identity=DEV)
        assert (await server.get_prompt("ask_admin", identity=OPS)).identifier == "ask_admin"


async def test_hidden_components_stay_hidden_whatever_the_rules_allow(shelf: str) -> None:
    server = create_proxy(shelf, authorization=RULES)
    async with server:
        assert "get_a" in await in_process(server, "tools", OPS)
        server.disable(keys={"tool:get_a"})
        assert "get_a" not in await in_process(server, "tools", OPS)
        assert await in_process(server, "tools", DEV) == ["set_a"]
        with pytest.raises(MCPError, match="unknown tool"):
            await server.call_tool("get_a", identity=OPS)
        server.enable(keys={"tool:get_a"})
        assert await in_process(server, "tools", DEV) == ["get_a", "set_a"]


async def test_own_components_and_prefixes_are_named_as_clients_see_them(shelf: str) -> None:
    rules = [
        {"name": "own", "who": {"groups": ["dev"]}, "may": [{"backends": ["_local"]}]},
        {"name": "far", "who": {"groups": ["ops"]}, "may": [{"tools": ["far_get_a"]}]},
    ]
    server = Server(authorization={"rules": rules})
    server.add_tool(lambda: "near", name="near")
    server.mount(shelf, prefix="far")
    async with server:
        assert await in_process(server, "tools", DEV) == ["near"]
        assert await in_process(server, "tools", OPS) == ["far_get_a"]
        with pytest.raises(MCPError, match="unknown tool: near"):
            await server.call_tool("near", identity=OPS)


@asynccontextmanager
async def connected(url: str, mode: str, token: str | None) -> AsyncIterator[Client]:
    headers = {"authorization": token} if token else {}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=20) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        yield client


async def listed(client: Client) -> dict[str, list[str]]:
    """All lists of a client."""
    return {
        "tools": [tool.name for tool in (await client.list_tools()).tools],
        "prompts": [prompt.name for prompt in (await client.list_prompts()).prompts],
        "resources": [str(item.uri) for item in (await client.list_resources()).resources],
        "resource_templates": [
            item.uri_template
            for item in (await client.list_resource_templates()).resource_templates
        ],
    }


@pytest.mark.parametrize("mode", ERAS)
async def test_clients_over_http_are_authenticated_and_see_what_they_may_use(
    shelf: str, mode: str
) -> None:
    async with issuing() as issuer:
        server = create_proxy(
            shelf,
            public_url=PUBLIC_URL,
            authentication=issuer.spec()["authentication"],
            authorization=RULES,
        )
        async with served(server) as url:
            await _refused_without_token(url)
            for subject, groups in (("ann", ["dev"]), ("bob", ["ops"]), ("eve", [])):
                token = issuer.token(subject, groups=groups)
                async with connected(url, mode, token) as client:
                    expected = SEEN[subject if groups else ""]
                    for _ in range(2):
                        assert _sorted(await _lists(client, groups)) == _sorted(expected)
                    if subject == "ann":
                        assert text(await client.call_tool("get_a", {})) == "get_a"
                        with pytest.raises(MCPError, match="unknown tool"):
                            await client.call_tool("get_off", {})
                        with pytest.raises(MCPError, match="unknown prompt"):
                            await client.get_prompt("ask_admin")
                        with pytest.raises(MCPError, match="unknown resource"):
                            await client.read_resource("file:///etc/passwd")


async def _lists(client: Client, groups: list[str]) -> dict[str, list[str]]:
    # A server without anything for the caller declares no capabilities.
    return await listed(client) if groups else SEEN[""]


def _sorted(lists: dict[str, list[str]]) -> dict[str, list[str]]:
    return {kind: sorted(names) for kind, names in lists.items()}


async def _refused_without_token(url: str) -> None:
    async with httpx2.AsyncClient() as http:
        response = await http.post(url, json={"jsonrpc": "2.0", "id": 1, "method": "ping"})
        assert response.status_code == 401
        metadata = f"{url.rpartition('/')[0]}/.well-known/oauth-protected-resource"
        assert (await http.get(metadata)).json()["resource"] == PUBLIC_URL


async def test_a_manifest_as_the_target_keeps_its_access(shelf: str, tmp_path: Path) -> None:
    accounts = {"serviceAccounts": {"audience": "x"}}
    manifest = a_manifest(
        backends=[{"name": "s", "url": shelf}], authentication=accounts, authorization=RULES
    )
    file = tmp_path / "proxy.yaml"
    file.write_text(yaml.safe_dump(manifest))
    server = create_proxy(file)
    assert server.is_restricted
    async with server:
        assert await in_process(server, "tools", NOBODY) == []
    async with served(server) as url, httpx2.AsyncClient() as http:
        assert (await http.post(url, json={})).status_code == 401
    rules = {"rules": [{"name": "all", "who": {"any": True}, "may": [{"backends": ["s"]}]}]}
    async with create_proxy(file, authorization=rules) as other:
        assert len(await in_process(other, "tools", NOBODY)) == len(TOOLS)


@pytest.mark.parametrize(
    ("access", "says"),
    [
        ({"authorization": {"rules": [{"name": "x"}]}}, r"authorization: rules\[0\].who: "),
        ({"authorization": {"default": "Maybe"}}, "authorization: default: "),
        ({"authorization": {"rulez": []}}, "authorization: rulez: unknown field"),
        ({"authentication": {"jwt": [{"issuer": "https://i"}]}}, "needs publicUrl"),
        ({"audit": {"arguments": "Some"}}, "audit: arguments: "),
    ],
)
def test_an_invalid_field_is_named(access: dict[str, Any], says: str) -> None:
    with pytest.raises(ManifestError, match=says):
        create_proxy("http://localhost/mcp", **access)


async def test_rules_that_need_callers_are_refused_over_http_without_authentication() -> None:
    server = create_proxy("http://localhost/mcp", authorization=RULES)
    with pytest.raises(ManifestError, match="without authentication every caller is anonymous"):
        await server.run_async(transport="http")


def test_a_server_with_rules_is_not_served_by_one_without_them(shelf: str) -> None:
    inner = create_proxy(shelf, authorization=RULES)
    for serve in (create_proxy, Server().mount, lambda s: mount(MCPServer("x"), s)):
        with pytest.raises(ValueError, match="set authorization on the server that clients"):
            serve(inner)


async def test_copies_of_a_server_with_rules_are_refused(shelf: str) -> None:
    inner = create_proxy(shelf, authorization=RULES)
    async with inner:
        copy = (await inner.get_tool("get_a", identity=DEV)).copy()
    with pytest.raises(ValueError, match="set authorization on the server that clients"):
        Server().add_tool(copy)


async def test_the_calls_of_a_program_are_recorded(
    shelf: str, capfd: pytest.CaptureFixture[str]
) -> None:
    server = create_proxy(shelf, name="mine", authorization=RULES, audit=Audit())
    async with server:
        await server.call_tool("get_a", {"x": 1}, identity=DEV)
        with pytest.raises(MCPError):
            await server.call_tool("get_off", identity=DEV)
    captured = capfd.readouterr()
    assert "mcpproxy.audit" not in captured.out
    lines = [json.loads(line) for line in captured.err.splitlines() if "mcpproxy.audit" in line]
    assert [(r["proxy"], r["name"], r["decision"]) for r in lines] == [
        ("mine", "get_a", "allowed"),
        ("mine", "get_off", "denied"),
    ]
    assert {r["principal"]["subject"] for r in lines} == {"ann"}


async def test_a_session_of_the_client_on_standard_streams_has_the_identity_of_the_program(
    shelf: str,
) -> None:
    from mcpproxy.proxy.downstream.stdio import StdioServer
    from tests.proxy.runtime.raw import rpc

    server = create_proxy(shelf, authorization=RULES)
    written: list[bytes] = []

    class Target:
        def __init__(self) -> None:
            import asyncio

            self.failed = asyncio.get_running_loop().create_future()

        async def write(self, data: bytes) -> None:
            written.append(data)

    class Source:
        def __init__(self) -> None:
            first = rpc("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}}, 1)
            second = rpc("tools/list", {}, 2)
            self.left = [f"{json.dumps(line)}\n".encode() for line in (first, second)]

        async def read(self) -> bytes:
            return self.left.pop(0) if self.left else b""

    async with server:
        await server.list_tools(identity=OPS)
        await StdioServer(server.gateway, Target(), DEV).run(Source())
    answers = {message["id"]: message for message in map(json.loads, written) if "id" in message}
    assert [tool["name"] for tool in answers[2]["result"]["tools"]] == ["get_a", "set_a"]


class Sdk:
    """An SDK server with a mounted proxy, whose callers a header names."""

    def __init__(self, url: str, **access: Any) -> None:
        self.server = MCPServer("host", log_level="WARNING")
        self.server.add_tool(lambda: "own", name="own")
        self.identity = NOBODY
        mount(self.server, url, identify=lambda ctx: self.identity, **access)


async def test_a_proxy_in_an_sdk_server_obeys_the_rules_for_the_callers_it_identifies(
    shelf: str, capfd: pytest.CaptureFixture[str]
) -> None:
    sdk = Sdk(shelf, authorization=RULES, audit={})
    async with Client(sdk.server) as client:
        for identity in (OPS, DEV, NOBODY, DEV):
            sdk.identity = identity
            result = await listed(client)
            assert set(result["tools"]) == {"own", *SEEN[identity.subject]["tools"]}
            assert result["prompts"] == SEEN[identity.subject]["prompts"]
        assert text(await client.call_tool("get_a", {})) == "get_a"
        sdk.identity = NOBODY
        await _is_refused(client, "get_a")
        assert text(await client.call_tool("own", {})) == "own"
    records = [json.loads(line) for line in capfd.readouterr().err.splitlines() if "audit" in line]
    assert [r["decision"] for r in records if r["event"] == "call"] == ["allowed", "denied"]


async def _is_refused(client: Client, tool: str) -> None:
    try:
        result = await client.call_tool(tool, {})
    except MCPError:
        return
    assert result.is_error


def test_the_first_mount_sets_the_access(shelf: str) -> None:
    sdk = Sdk(shelf, authorization=RULES)
    with pytest.raises(ValueError, match="set identify and the access of all at the first mount"):
        mount(sdk.server, shelf, prefix="x", audit={})


def test_an_access_token_that_an_sdk_server_has_verified_is_an_identity() -> None:
    token = AccessToken(
        token="t",
        client_id="ide",
        scopes=["a"],
        subject="ann",
        claims={"iss": "https://i", "groups": ["dev", 1]},
    )
    request = SimpleNamespace(scope={"user": AuthenticatedUser(token)})
    result = identity_of_request(request)
    assert (result.issuer, result.subject, result.client) == ("https://i", "ann", "ide")
    assert (result.groups, result.scopes) == (frozenset({"dev"}), frozenset({"a"}))
    for other in (None, SimpleNamespace(scope={}), SimpleNamespace()):
        assert identity_of_request(other).method == "anonymous"
