"""Clients of all SDKs report a call beyond a limit at once, and go on with their session."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from scripts import pip_peers
from scripts.conformance_servers import manifest_of, proxy
from tests.peers.test_clients import CLIENTS, PAIRS
from tests.peers.world import Request, Server, ask

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]
ECHO: Final[Request] = ("tools/call", {"name": "web_echo", "arguments": {"message": "hi"}})
LIST: Final[Request] = ("tools/list", {})
ONCE: Final[dict[str, Any]] = {"rules": [{"name": "once", "calls": 1, "window": "24h"}]}


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    pip_peers.install()


@pytest.fixture
def limited(tmp_path: Path, servers: dict[str, Server]) -> Iterator[Server]:
    """A proxy that admits one call."""
    backend = {"name": "web", "url": servers["web"].target}
    target = manifest_of({"backends": [backend], "limits": ONCE}, tmp_path)
    with proxy(target, tmp_path) as url:
        yield Server("http", url)


@pytest.mark.parametrize(("name", "mode"), PAIRS)
def test_a_client_reports_a_call_beyond_a_limit_and_goes_on(
    limited: Server, tmp_path: Path, name: str, mode: str
) -> None:
    client = CLIENTS[name]
    server = client.before(limited, tmp_path)
    answers = ask(server, mode, [ECHO, ECHO, LIST], client=client.program)["answers"]
    assert "result" in answers[0]
    assert "rule once of spec.limits allows 1 calls" in answers[1]["error"]["message"]
    assert len(answers[2]["result"]["tools"]) > 3
