"""Messages between versions, frozen: a folder for each version that may still run.

A folder is written when its version is released, and never changed. An operator meets runtimes of
other versions while pods roll, pods of one proxy meet each other, and clients bring the tokens of
pods that have gone.
"""

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from mcpproxy import desired
from mcpproxy.api import constants, manifest
from mcpproxy.cluster.pods.reports import PodReportWatcher
from mcpproxy.cluster.pods.status_stream import PodAddress
from mcpproxy.desired import config_map
from mcpproxy.proxy import run_options
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.tokens import session_token
from mcpproxy.proxy.core.tokens.sealed_tokens import Sealer
from mcpproxy.proxy.core.tokens.session_token import SessionToken
from mcpproxy.proxy.downstream.legacy.sessions import SessionRegistry
from mcpproxy.proxy.downstream.modern.input_required import SuspendedCalls
from mcpproxy.proxy.downstream.peers.tls import PeerCertificate
from mcpproxy.proxy.protocol import jsonrpc
from tests.cluster.pods.pods import FakePods
from tests.support.builders import OPTIONS, OWNER, an_mcpproxy

FOLDER = Path(__file__).parent
VERSIONS = sorted(path.name for path in FOLDER.iterdir() if path.name[0].isdigit())
POD = PodAddress("team", "tools-1", "p1", "10.0.0.1")

pytestmark = pytest.mark.parametrize("version", VERSIONS)


def frozen(version: str, name: str) -> Any:
    """One of the files of a version."""
    text = (FOLDER / version / name).read_text(encoding="utf-8")
    return json.loads(text) if name.endswith(".json") else text


def test_a_configuration_is_read_and_rendered_to_the_very_same_bytes(version: str) -> None:
    text = frozen(version, "mcpproxy.yaml")
    proxy = manifest.load(text)
    built = config_map.build(proxy, OWNER)
    assert built["data"][constants.CONFIG_FILE] == text
    assert built["metadata"]["name"] == frozen(version, "container.json")["configMap"]


def test_this_runtime_accepts_the_arguments_of_an_earlier_pod(version: str) -> None:
    container = frozen(version, "container.json")
    name, *arguments = container["args"]
    assert (container["command"], name) == (["mcpproxy"], "run")
    parser = argparse.ArgumentParser(exit_on_error=False)
    run_options.add_arguments(parser)
    result = parser.parse_args(arguments)
    assert str(result.file) == f"{constants.CONFIG_DIR}/{constants.CONFIG_FILE}"
    assert (result.port, result.admin_port) == (constants.PORT_HTTP, constants.PORT_ADMIN)
    assert str(result.sealing_keys) == constants.SEALING_DIR
    assert result.drain == 110


def test_an_earlier_runtime_gets_the_arguments_that_it_supports(version: str) -> None:
    before = frozen(version, "container.json")
    [deployment] = [
        child
        for child in desired.build(an_mcpproxy(), OPTIONS, OWNER)
        if child["kind"] == "Deployment"
    ]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    flags = {item for item in container["args"] if item.startswith("-")}
    assert flags <= set(before["args"])
    assert container["command"] == before["command"]
    assert container["ports"] == before["ports"]
    for probe, get in before["probes"].items():
        assert container[probe]["httpGet"] == get
    assert {volumemount["mountPath"] for volumemount in container["volumeMounts"]} <= set(
        before["mounts"]
    )
    assert [entry["name"] for entry in container["env"]] == [
        element["name"] for element in before["env"]
    ]


async def test_a_report_survives_a_round_trip(version: str) -> None:
    said = frozen(version, "report.json")
    pods, changes = FakePods(), asyncio.Queue[str]()
    fleet: PodReportWatcher[str] = PodReportWatcher(pods, changes.put_nowait, time.monotonic)
    fleet.follow("tools", [POD])
    pods.say_bytes(POD.uid, json.dumps({**said, "later": True}).encode())
    await asyncio.wait_for(changes.get(), 5)
    report = fleet.view(POD.uid).report
    await fleet.close()
    assert report is not None
    assert report.to_manifest() == said


def test_tokens_are_opened_and_sealed_to_the_very_same_text(version: str) -> None:
    tokens = frozen(version, "tokens.json")
    sealer = Sealer([tokens["key"].encode()], lambda size: bytes(range(size)))
    info = b'{"name":"c","version":"1"}'
    client = ClientIdentity("2025-11-25", b'{"roots":{}}', info, principal="p", session="s")
    token = SessionToken(client, tokens["time"], tokens["owner"])
    assert (
        session_token.decode_session_token(sealer, tokens["session"], "p", tokens["time"]) == token
    )
    assert session_token.encode_session_token(sealer, token) == tokens["session"]


def test_state_in_a_pod_of_another_version_is_found(version: str) -> None:
    tokens = frozen(version, "tokens.json")
    sealer = Sealer([tokens["key"].encode()], lambda size: bytes(range(size)))
    live = SessionRegistry(sealer, "here", 1800.0)
    assert live.owner_of_stream(tokens["stream"]) == tokens["owner"]
    assert live.owner_of_request(Raw(jsonrpc.encode(tokens["question"]))) == tokens["owner"]
    parking = SuspendedCalls(sealer, "here", time.time)
    params = {"requestState": Raw(jsonrpc.encode(tokens["parked"]))}
    assert parking.owner(params) == tokens["owner"]

    if "instance" in tokens:
        # A pod of a version before that counts as terminated.
        credential = PeerCertificate(tokens["key"].encode(), "another")
        assert credential.name_of(tokens["owner"]) == tokens["instance"]
