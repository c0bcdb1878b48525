"""Plans without a network: what was saved says the same, and answers to a changed manifest."""

import json
import ssl
from pathlib import Path
from typing import Any

import pytest

from tests.differential.backend import Backend, Call
from tests.plan.planning import NOTES, names, plan, proxy
from tests.proxy.runtime.serving import LIVE, free_port, serving
from tests.support.authority import Authority, Mounted

pytestmark = LIVE
GONE = f"http://127.0.0.1:{free_port()}/mcp"


async def _never(call: Call) -> None:
    raise NotImplementedError


async def _saved(directory: Path, *backends: dict[str, Any]) -> Path:
    """A manifest whose backends' lists were saved in `directory`/saved."""
    file = proxy(directory / "mcpproxy.yaml", *backends)
    result = await plan("-f", file, "--save", directory / "saved")
    assert result.code == 0, result.err + result.out
    return file


@pytest.mark.parametrize("era", ["legacy", "modern"])
@pytest.mark.parametrize("form", ["text", "json"])
async def test_a_plan_from_saved_lists_is_the_same_byte_for_byte(
    tmp_path: Path, peer: Any, era: str, form: str
) -> None:
    server, url = await peer("p", era)
    file = proxy(tmp_path / "f.yaml", {"name": "p", "url": url}, {"name": "notes", "stdio": NOTES})
    saved = tmp_path / "saved"
    online = await plan("-f", file, "-o", form, "--save", saved)
    asked = len(server.gate.seen)
    offline = await plan("-f", file, "-o", form, "--offline", saved)
    assert (offline.code, offline.out) == (online.code, online.out)
    assert online.code == 0
    assert len(server.gate.seen) == asked
    pages = json.loads((saved / "default" / "tools" / "p.json").read_text())["lists"]["tools"]
    assert [len(page["tools"]) for page in pages] == [4, 4, 1]


async def test_a_service_with_certificates_is_planned_with_https_and_without_a_network(
    tmp_path: Path,
) -> None:
    authority, values = Authority("One"), Mounted(tmp_path / "values")
    values.trust(authority)
    certificate, key = authority.issue("peer.default.svc")
    (tmp_path / "server.pem").write_text(key + certificate)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "server.pem")
    ca = {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}}
    service = {"name": "peer", "port": 8443}
    file = proxy(tmp_path / "f.yaml", {"name": "p", "service": service, "tls": {"caFrom": ca}})
    saved = tmp_path / "saved"
    server = Backend("legacy", _never, {"tools": ['{"name":"t","inputSchema":{"type":"object"}}']})
    async with serving(server, tls=tls) as base:
        there = ("--resolve", f"peer={base.removeprefix('https://')}", "--values", values.directory)
        online = await plan("-f", file, *there, "--save", saved)
    assert online.code == 0, online.out + online.err
    assert "p_t" in online.out
    offline = await plan("-f", file, "--offline", saved)
    assert (offline.code, offline.out) == (online.code, online.out)


async def test_an_offline_plan_answers_to_a_changed_manifest(tmp_path: Path, peer: Any) -> None:
    _, url = await peer("p")
    await _saved(tmp_path, {"name": "p", "url": url})
    tools = {"exclude": ["fail"], "overrides": [{"name": "echo", "rename": "say"}]}
    changed = {"name": "p", "prefix": "new", "url": GONE, "tools": tools}
    file = proxy(tmp_path / "changed.yaml", changed)
    result = await plan("-f", file, "-o", "json", "--offline", tmp_path / "saved")
    assert result.code == 0
    assert "new_say" in names(result.plan)
    assert not {"new_echo", "new_fail", "p_echo"} & set(names(result.plan))
    assert "file://new//etc/motd" in names(result.plan, "resources")


async def test_an_offline_plan_knows_that_reused_sessions_are_refused(
    tmp_path: Path, peer: Any
) -> None:
    _, url = await peer("p", "legacy")
    await _saved(tmp_path, {"name": "p", "url": url})
    reused = {"name": "p", "url": GONE, "session": {"mode": "Reused"}}
    file = proxy(tmp_path / "changed.yaml", reused)
    result = await plan("-f", file, "-o", "json", "--offline", tmp_path / "saved")
    assert (result.code, result.plan["backends"][0]["reason"]) == (1, "StatefulBackend")


async def test_a_revision_other_than_the_saved_one_requires_a_new_save(
    tmp_path: Path, peer: Any
) -> None:
    _, url = await peer("p", "legacy")
    await _saved(tmp_path, {"name": "p", "url": url})
    file = proxy(tmp_path / "changed.yaml", {"name": "p", "url": GONE, "protocol": "modern"})
    result = await plan("-f", file, "--offline", tmp_path / "saved")
    assert result.code == 1
    assert "saved with revision 2025-11-25, but protocol is modern" in result.out


async def test_a_backend_that_was_never_saved_is_exit_code_1(tmp_path: Path) -> None:
    file = proxy(tmp_path / "f.yaml", {"name": "new", "url": GONE})
    result = await plan("-f", file, "--offline", tmp_path)
    assert result.code == 1
    assert "tools/new.json does not exist; create it with --save" in result.out


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"version":9,"status":{},"greeting":{},"lists":{}}']
)
async def test_a_file_that_is_not_a_saved_catalog_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "default" / "tools" / "p.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    file = proxy(tmp_path / "f.yaml", {"name": "p", "url": GONE})
    result = await plan("-f", file, "--offline", tmp_path)
    assert result.code == 1
    assert "tools/p.json is " in result.out


async def test_a_directory_that_cannot_be_written_is_exit_code_1(tmp_path: Path, peer: Any) -> None:
    _, url = await peer("p")
    (tmp_path / "taken").write_text("a file")
    file = proxy(tmp_path / "f.yaml", {"name": "p", "url": url})
    result = await plan("-f", file, "--save", tmp_path / "taken")
    assert result.code == 1
    assert "taken" in result.err
