"""A proxy that knows its callers: agents of two namespaces, people, and a program with a key."""

import hashlib
import json
import time
from typing import Any, NamedTuple

import httpx2
import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from e2e import pods
from e2e.pods import PORT, manifest, url_of
from e2e.world import Object, World

NAME = "access"
AGENT = "agent"
AUDIENCE = "tools.example.dev"
FORECAST = "weather_get_forecast"
LEGACY = "2025-11-25"
CLIENT_SECONDS = 20
_TOKEN = "/var/run/mcp/token"
_KEYS = "agent-keys"
_ACCEPT = "application/json, text/event-stream"


class Places(NamedTuple):
    """The namespace of the proxy, and those of the two agents."""

    proxy: World
    forecaster: World
    archivist: World


def proxy(places: Places, *more_rules: Object) -> Object:
    """The MCPProxy, of two pods."""
    secret = {"secretKeyRef": {"name": _KEYS, "key": "n8n"}}
    notes = {"command": "python", "args": ["samples/servers/notes.py"]}
    spec = {
        "image": pods.IMAGE,
        "replicas": 2,
        "publicUrl": url_of(places.proxy, NAME),
        "authentication": {
            "jwt": [{"issuer": issuer(places.proxy), "insecureHttp": True}],
            "serviceAccounts": {"audience": AUDIENCE},
            "apiKeys": [{"name": "n8n", "hashFrom": secret}],
        },
        "authorization": {"rules": [*rules(places), *more_rules]},
        "backends": [
            {"name": "weather", "service": {"name": "weather", "port": PORT}},
            {
                "name": "counter",
                "service": {"name": "counter", "port": PORT},
                "session": {"mode": "PerClient"},
            },
            {"name": "notes", "stdio": notes},
        ],
        "health": {"interval": "5s"},
    }
    return manifest("mcpproxy.dev/v1alpha1", "MCPProxy", NAME, spec)


def rules(places: Places) -> list[Object]:
    """Rules that each cover something."""

    def rule(name: str, who: Object, **may: list[str]) -> Object:
        return {"name": name, "who": who, "may": [may]}

    def accounts(world: World, name: str) -> Object:
        return {"serviceAccounts": [{"namespace": world.namespace, "name": name}]}

    condition = 'args.city in ["Oslo", "Rome"]'
    return [
        rule("forecaster", accounts(places.forecaster, AGENT), backends=["weather"]),
        rule("archivist", accounts(places.archivist, "*"), tools=["notes_*", "counter_*"]),
        rule("people", {"groups": ["dev"]}, tools=["notes_*"]),
        {**rule("n8n", {"apiKeys": ["n8n"]}, tools=[FORECAST]), "when": condition},
    ]


def issuer(world: World) -> str:
    """The OpenID provider of e2e/programs/issuer.py, behind its Service."""
    return f"http://issuer.{world.namespace}.svc:{PORT}"


def store(world: World, key: str) -> None:
    """Write the hash of the program's key into the Secret."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": _KEYS}}
    digest = hashlib.sha256(key.encode()).hexdigest()
    world.apply({**secret, "stringData": {"n8n": digest}})


def start_agent(world: World) -> None:
    """Create a pod of the ServiceAccount `agent` with a projected token of the audience."""
    pods.install(world)
    world.kubectl("create", "serviceaccount", AGENT)
    pod = pods.spec("none")
    [container] = pod["containers"]
    container["command"] = ["python", "-c", "import signal; signal.pause()"]
    directory, _, path = _TOKEN.rpartition("/")
    container["volumeMounts"].append({"name": "token", "mountPath": directory})
    source = {"audience": AUDIENCE, "expirationSeconds": 3600, "path": path}
    projected = {"sources": [{"serviceAccountToken": source}]}
    pod["volumes"].append({"name": "token", "projected": projected})
    pod["serviceAccountName"] = AGENT
    world.apply(manifest("v1", "Pod", AGENT, pod))


def in_agent(world: World, program: str, *arguments: str) -> Any:
    """Return the output of a program in the agent's pod."""
    command = ("python", f"/programs/{program}.py", *arguments)
    return json.loads(world.kubectl("exec", f"pod/{AGENT}", "--", *command))


def as_agent(agent: World, proxy: World, mode: str, *calls: tuple[str, Object]) -> Any:
    """The tools that an agent sees, and the answers to its calls."""
    return in_agent(agent, "agent", url_of(proxy, NAME), mode, _TOKEN, json.dumps(calls))


def token(world: World, account: str, audience: str = AUDIENCE) -> str:
    """A token of a ServiceAccount; without an audience, it is for the API server."""
    chosen = ("--audience", audience) if audience else ()
    return world.kubectl("create", "token", account, *chosen).strip()


def sign_in(places: Places, **claims: str) -> str:
    """A token of the OpenID provider with these claims."""
    code = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())"
    url = f"{issuer(places.proxy)}/token?{httpx2.QueryParams(claims)}"
    inside = ("exec", f"pod/{AGENT}", "--", "python", "-c", code, url)
    return places.archivist.kubectl(*inside).strip()


def forge(places: Places, **claims: str) -> str:
    """A token like those of the OpenID provider, signed with another key."""
    result = {**claims, "iss": issuer(places.proxy), "exp": int(time.time()) + 300}
    return jwt.encode(result, generate_private_key(SECP256R1()), "ES256", {"kid": "one"})


def http_client(credentials: str) -> httpx2.AsyncClient:
    """An HTTP client that sends credentials."""
    headers = {"Authorization": f"Bearer {credentials}"}
    return httpx2.AsyncClient(headers=headers, timeout=CLIENT_SECONDS)


async def tools(url: str, credentials: str) -> list[str]:
    """The names of the tools that the holder of credentials sees."""
    async with (
        http_client(credentials) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        return sorted(tool.name for tool in (await client.list_tools()).tools)


def headers(credentials: str, session: str | None = None) -> dict[str, str]:
    """The headers of a request of the revision 2025-11-25."""
    result = {"Authorization": f"Bearer {credentials}", "Accept": _ACCEPT}
    return result if session is None else {**result, "Mcp-Session-Id": session}


def post(
    url: str, credentials: str, method: str, params: Object, session: str | None = None
) -> httpx2.Response:
    """The response to one request of the revision 2025-11-25."""
    return _send(url, headers(credentials, session), method, params)


def initialize(url: str, credentials: str) -> httpx2.Response:
    """The response to the first request of a session."""
    return initialize_with(url, headers(credentials))


def initialize_with(url: str, sent: dict[str, str]) -> httpx2.Response:
    """The response to the first request of a session with these headers."""
    about = {"clientInfo": {"name": "story", "version": "1"}, "capabilities": {}}
    accept = {"Accept": _ACCEPT}
    return _send(url, accept | sent, "initialize", {"protocolVersion": LEGACY, **about})


def _send(url: str, sent: dict[str, str], method: str, params: Object) -> httpx2.Response:
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return httpx2.post(url, json=message, headers=sent, timeout=CLIENT_SECONDS)
