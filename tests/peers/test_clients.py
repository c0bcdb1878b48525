"""The SDKs' clients in all their major versions, and clients of others, in front of the proxy.

Each gets through the proxy what it gets from the server itself.
"""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from scripts import npm, pip_peers
from tests.peers.world import (
    ERAS,
    LEGACY_MEMBERS,
    NODE,
    TYPESCRIPT,
    Request,
    Server,
    ask,
    plain,
    through,
    undone,
)

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]

LEGACY: Final = ("legacy",)
BOTH: Final = tuple(ERAS)
REMOTE: Final = os.fspath(npm.module("mcp-remote", "dist/proxy.js"))


def _python(name: str, environment: str) -> tuple[str, ...]:
    return (os.fspath(pip_peers.program(environment, "python")), "client.py", name)


@dataclass(frozen=True)
class Client:
    """A program in front of a server, and what it can do."""

    program: tuple[str, ...]
    modes: tuple[str, ...]
    progress: bool = True
    between: str = ""
    """A program on standard streams between the client and the server's URL."""

    def before(self, server: Server, home: Path) -> Server:
        """Target by which the program reaches a server."""
        if not self.between:
            return server
        command = ["env", f"HOME={home}", NODE, self.between, server.target, "--silent"]
        return Server("stdio", json.dumps(command))


CLIENTS: Final = {
    "TypeScript SDK 1": Client((NODE, "sdk1.mjs"), LEGACY),
    "TypeScript SDK 2": Client(TYPESCRIPT, BOTH),
    "Python SDK 1": Client(_python("mcp1", "mcp1"), LEGACY),
    "Python SDK 2": Client(_python("mcp2", "mcp2"), BOTH),
    "FastMCP": Client(_python("fastmcp", "mcp2"), BOTH),
    "AI SDK": Client((NODE, "ai.mjs"), BOTH, progress=False),
    "mcp-remote": Client(TYPESCRIPT, BOTH, between=REMOTE),
}
INVALID_PARAMS: Final = -32602
SLOW: Final[Request] = (
    "tools/call",
    {"name": "trigger-long-running-operation", "arguments": {"duration": 0.2, "steps": 2}},
)
WRONG: Final[Request] = ("tools/call", {"name": "echo", "arguments": {"message": 7}})
UNKNOWN: Final[Request] = ("resources/read", {"uri": "demo://resource/there/is/none"})
REQUESTS: Final[list[Request]] = [
    ("tools/list", {}),
    ("prompts/list", {}),
    ("resources/list", {}),
    ("resources/templates/list", {}),
    ("tools/call", {"name": "echo", "arguments": {"message": "grüße 🌍"}}),
    ("tools/call", {"name": "get-structured-content", "arguments": {"location": "New York"}}),
    ("tools/call", {"name": "get-tiny-image", "arguments": {}}),
    SLOW,
    WRONG,
    UNKNOWN,
    ("prompts/get", {"name": "args-prompt", "arguments": {"city": "Oslo"}}),
    ("resources/read", {"uri": "demo://resource/dynamic/text/5"}),
    (
        "completion/complete",
        {
            "ref": {"type": "ref/prompt", "name": "completable-prompt"},
            "argument": {"name": "department", "value": "E"},
        },
    ),
]
PAIRS: Final = [(name, mode) for name, client in CLIENTS.items() for mode in client.modes]


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    pip_peers.install()


@pytest.fixture(scope="module")
def direct(servers: dict[str, Server], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Results of each client from server-everything directly, which supports only the older era."""
    home = tmp_path_factory.mktemp("home")

    def asked(client: Client) -> Any:
        before = client.before(servers["web"], home)
        return ask(before, "legacy", REQUESTS, client=client.program)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(CLIENTS, pool.map(asked, CLIENTS.values()), strict=True))


@pytest.mark.parametrize(("name", "mode"), PAIRS)
def test_a_client_gets_the_answers_of_the_server_through_the_proxy(
    direct: dict[str, Any], proxied: Server, tmp_path: Path, name: str, mode: str
) -> None:
    client, own = CLIENTS[name], direct[name]["answers"]
    asked = [through(request, "web") for request in REQUESTS]
    result = ask(client.before(proxied, tmp_path), mode, asked, client=client.program)
    assert (direct[name]["revision"], result["revision"]) == (ERAS["legacy"], ERAS[mode])
    dropped = () if mode == "legacy" else LEGACY_MEMBERS
    for request, item, other in zip(REQUESTS, own, result["answers"], strict=True):
        assert undone(other, "web", dropped) == plain(item, dropped), request
    assert own[REQUESTS.index(WRONG)]["result"]["isError"] is True
    refused = [request for request, entry in zip(REQUESTS, own, strict=True) if "error" in entry]
    assert refused == [UNKNOWN]
    assert own[REQUESTS.index(UNKNOWN)]["error"]["code"] == INVALID_PARAMS
    slow = REQUESTS.index(SLOW)
    # The last step may come after the answer, where the client no longer waits for it.
    assert result["answers"][slow]["progress"][:1] == own[slow]["progress"][:1]
    assert bool(own[slow]["progress"]) == client.progress
