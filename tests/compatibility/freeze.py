"""Writes the folder of a version that is about to be released:

    python -m tests.compatibility.freeze 0.2.0

What a report looks like has no source but the model: look at the one of the version before.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from mcpproxy import desired
from mcpproxy.api import constants, manifest
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.tokens import session_token
from mcpproxy.proxy.core.tokens.sealed_tokens import Sealer
from mcpproxy.proxy.core.tokens.session_token import SessionToken
from mcpproxy.proxy.downstream.peers.tls import PeerCertificate
from tests.support.builders import OPTIONS, OWNER
from tests.support.every_field import EVERY_FIELD

FOLDER = Path(__file__).parent
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
KEY = "0123456789abcdef0123456789abcdef"
TIME = 1790000000
OWNER_OF_ALL = "10.0.0.7:8080#abc"
ANOTHER = "10.0.0.8:8080#def"


def container(children: dict[str, Any]) -> dict[str, Any]:
    """Return the container of a pod."""
    [result] = children["Deployment"]["spec"]["template"]["spec"]["containers"]
    return {
        "configMap": children["ConfigMap"]["metadata"]["name"],
        **{key: result[key] for key in ("command", "args", "env", "ports")},
        "probes": {probe: result[probe]["httpGet"] for probe in PROBES},
        "mounts": sorted(mount["mountPath"] for mount in result["volumeMounts"]),
    }


def tokens() -> dict[str, Any]:
    """Return sealed tokens of every purpose."""
    sealer = Sealer([KEY.encode()], lambda size: bytes(range(size)))
    info = b'{"name":"c","version":"1"}'
    client = ClientIdentity("2025-11-25", b'{"roots":{}}', info, principal="p", session="s")
    contents: dict[str, dict[str, Any]] = {
        "question": {"o": OWNER_OF_ALL, "n": 1},
        "stream": {"o": OWNER_OF_ALL, "n": 2},
        "parked": {"n": 3, "o": OWNER_OF_ALL, "p": "p", "d": "00", "t": TIME},
    }
    return {
        "key": KEY,
        "time": TIME,
        "owner": OWNER_OF_ALL,
        "instance": PeerCertificate(KEY.encode(), ANOTHER).name_of(OWNER_OF_ALL),
        "session": session_token.encode_session_token(
            sealer, SessionToken(client, TIME, OWNER_OF_ALL)
        ),
        **{purpose: sealer.seal(purpose, content) for purpose, content in contents.items()},
    }


def main(version: str) -> None:
    """Write the folder."""
    folder = FOLDER / version
    folder.mkdir()
    built = desired.build(manifest.parse(EVERY_FIELD), OPTIONS, OWNER)
    children = {child["kind"]: child for child in built}
    text = children["ConfigMap"]["data"][constants.CONFIG_FILE]
    (folder / constants.CONFIG_FILE).write_text(text, encoding="utf-8")
    for name, content in (("container", container(children)), ("tokens", tokens())):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    latest = max(path for path in FOLDER.glob("*/report.json"))
    shutil.copy(latest, folder)


if __name__ == "__main__":
    main(sys.argv[1])
