"""Identities with which a plan says that backends are called."""

from typing import Any

import pytest

from mcpproxy.api import manifest
from mcpproxy.plan.collect import describe_identity
from tests.support.bad_values import ref
from tests.support.builders import a_backend, a_manifest

CLIENT: dict[str, Any] = {"clientId": "mcpproxy", "clientSecretFrom": ref(secret="client")}
ISSUER = "https://login.example.com"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "without a token"),
        (
            {"headers": [{"name": "Authorization", "value": "Bearer x"}]},
            "with a configured Authorization",
        ),
        ({"forwardHeaders": ["authorization"]}, "with the Authorization of each client"),
        (
            {"auth": {"clientCredentials": {**CLIENT, "issuer": ISSUER}}},
            f"as client mcpproxy of {ISSUER}",
        ),
        (
            {"auth": {"clientCredentials": CLIENT}},
            "as client mcpproxy of the server that the backend names",
        ),
        (
            {"auth": {"tokenExchange": {**CLIENT, "tokenUrl": f"{ISSUER}/token"}}},
            f"on behalf of each caller, by client mcpproxy of {ISSUER}/token",
        ),
        (
            {
                "auth": {
                    "idJag": {
                        **CLIENT,
                        "identityProvider": {**CLIENT, "clientId": "gate", "issuer": ISSUER},
                    }
                }
            },
            (
                f"on behalf of each caller, by an ID-JAG for client gate of {ISSUER},"
                " by client mcpproxy of the server that the backend names"
            ),
        ),
        (
            {"auth": {"serviceAccount": {"audience": "stock"}}},
            "with a token of the pods' ServiceAccount for stock",
        ),
    ],
)
def test_a_plan_says_as_whom_a_backend_is_called(fields: dict[str, Any], words: str) -> None:
    spec: dict[str, Any] = {"backends": [a_backend(**fields)]}
    if "tokenExchange" in fields.get("auth", {}):
        spec["authentication"] = {"serviceAccounts": {"audience": "tools"}}
    if "idJag" in fields.get("auth", {}):
        spec["authentication"] = {"jwt": [{"issuer": ISSUER, "audiences": ["tools"]}]}
    (backend,) = manifest.parse(a_manifest(**spec)).spec.backends
    assert describe_identity(backend) == words
