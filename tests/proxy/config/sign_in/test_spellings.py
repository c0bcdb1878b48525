"""OAuth in mcpServers files, in the spellings of several clients."""

from typing import Any

import pytest

from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.proxy.config.targets import from_mcp_servers
from mcpproxy.proxy.upstream.sign_in.settings import SignIn

URL = "https://mcp.example.com/mcp"


def _sign_in(**members: Any) -> SignIn | None:
    configuration = from_mcp_servers({"mcpServers": {"a": {"url": URL, **members}}})
    return configuration.sign_ins.get("a")


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"auth": "oauth"}, SignIn()),
        ({"oauth": {}}, SignIn()),
        ({"oauth": True}, SignIn()),
        ({"oauth": {"enabled": True, "scopes": ["a", "b"]}}, SignIn(scopes=("a", "b"))),
        ({"oauth": {"enabled": False}}, None),
        ({"oauth": False}, None),
        (
            {"auth": {"CLIENT_ID": "c", "CLIENT_SECRET": "s", "scopes": ["a"]}},
            SignIn(client_id="c", client_secret="s", scopes=("a",)),
        ),
        (
            {"oauth": {"clientId": "c", "callbackPort": 8080, "scopes": "a b"}},
            SignIn(client_id="c", callback_port=8080, scopes=("a", "b")),
        ),
        (
            {"oauth": {"clientMetadataUrl": "https://a.example/client.json"}},
            SignIn(metadata_url="https://a.example/client.json"),
        ),
        ({"auth": "a-token"}, None),
        ({"auth": "oauth", "headers": {"Authorization": "Bearer x"}}, None),
        ({}, None),
    ],
)
def test_the_spellings_of_clients_mean_a_sign_in(
    members: dict[str, Any], expected: SignIn | None
) -> None:
    assert _sign_in(**members) == expected


def test_a_secret_can_be_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_SECRET", "s")
    sign_in = _sign_in(auth={"CLIENT_ID": "c", "CLIENT_SECRET": "${THE_SECRET}"})
    assert sign_in == SignIn(client_id="c", client_secret="s")


def test_an_unknown_field_is_named(caplog: pytest.LogCaptureFixture) -> None:
    assert _sign_in(oauth={"clientID": "c", "callbackPort": 8080}) == SignIn(callback_port=8080)
    assert "mcpServers.a.oauth: ignored: clientID, did you mean clientId" in caplog.text


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"oauth": {"callbackPort": "8080"}}, r"callbackPort.*port.*'8080'"),
        ({"oauth": {"callbackPort": 70000}}, "1 to 65535"),
        ({"oauth": {"scopes": [1]}}, r"scopes.*string"),
        ({"oauth": {"scopes": ['a"b']}}, "scope"),
        ({"oauth": {"scopes": {}}}, "list of scopes"),
        ({"oauth": {"enabled": "no"}}, "true or false"),
        ({"oauth": {"clientId": "a\nb"}}, "ASCII"),
        ({"oauth": {"clientMetadataUrl": "http://a.example/x"}}, "https URL with a path"),
        ({"oauth": "yes"}, r"oauth.*expected an object"),
        ({"auth": 5}, r"auth.*expected a token"),
    ],
)
def test_a_wrong_spelling_names_the_field(members: dict[str, Any], message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        _sign_in(**members)
