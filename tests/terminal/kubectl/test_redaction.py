"""Support bundles contain no secret, whatever its form and wherever it occurs."""

import base64
import json
import time
from typing import Any
from urllib.parse import quote

import pytest

from mcpproxy.terminal.kubectl.credential_patterns import REDACTED
from mcpproxy.terminal.kubectl.redaction import Redactor

SECRETS = {
    "plain": "correct horse battery",
    "short": "pw12",
    "quotes and backslashes": 'a"b\\c\\n"d',
    "a regular expression": "(.*)+[x]$^|?{2}",
    "lines": "first-line-of-key\nsecond-line-of-key\r\nthird",
    "other scripts": "пароль-密码-🔑",
    "control characters": "\x1b]0;x\x07secret",
    "percent": "100%s %d {0}",
    "a bearer token": "Bearer abcdef0123456789",
    "JSON": '{"client_secret": "s3cr3t-value"}',
    "a replacement": "\\1\\g<0>[redacted]!",
}


def _holder(place: str, secret: str) -> dict[str, Any]:
    entry = {"name": "X-Key", "value": secret}
    backend: dict[str, Any] = {"name": "a", "url": "http://a/mcp"}
    if place == "header":
        backend["headers"] = [entry]
    elif place == "env":
        backend = {"name": "a", "stdio": {"command": "x", "env": [entry]}}
    elif place == "option":
        backend = {"name": "a", "stdio": {"command": "x", "args": ["--api-key", secret]}}
    elif place == "option with a value":
        backend = {"name": "a", "stdio": {"command": "x", "args": [f"--token={secret}"]}}
    return {"kind": "MCPProxy", "spec": {"backends": [backend]}}


PLACES = ["header", "env", "option", "option with a value"]


def _parts(secret: str) -> list[str]:
    """The parts of a secret that must not remain."""
    lines = [line for line in secret.splitlines() if len(line) >= 4]
    return [line.removeprefix("Bearer ") for line in lines] or [secret]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", SECRETS)
def test_a_value_is_taken_from_objects_and_from_all_texts(name: str, place: str) -> None:
    secret, redactor = SECRETS[name], Redactor()
    shown = json.dumps(redactor.take_object(_holder(place, secret)), ensure_ascii=False)
    assert REDACTED in shown
    log = "\n".join(
        [
            f"plain {secret} end",
            json.dumps({"message": f"sent {secret}"}),
            json.dumps({"message": f"sent {secret}"}, ensure_ascii=False),
            json.dumps({"inner": json.dumps({"x": secret})}),
            f"GET /?q={quote(secret, safe='')}",
            base64.b64encode(secret.encode()).decode(),
        ]
    )
    cleaned = redactor.clean_text(shown) + redactor.clean_text(log)
    forms = {secret, base64.b64encode(secret.encode()).decode(), *_parts(secret)}
    for part in forms:
        for form in (part, json.dumps(part)[1:-1], quote(part, safe="")):
            assert len(form) < 4 or form not in cleaned


TEXTS = {
    "Authorization: Bearer abc.def-123": "abc.def-123",
    "authorization=Basic dXNlcjpwYXNz": "dXNlcjpwYXNz",
    "url https://user:hunter2@host/mcp": "hunter2",
    "postgresql://me:p%40ss@db/x": "p%40ss",
    "GET /mcp?api_key=abc123&x=1": "abc123",
    "token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln used": "eyJzdWIiOiIxIn0",
    "ghp_0123456789abcdefghij": "0123456789",
    "key sk-proj-abcdefgh was refused": "abcdefgh",
    '{"password": "hunter2"}': "hunter2",
    "{'client_secret': 'hunter2'}": "hunter2",
    "https://host/api/mcp/s/aGVsbG8x0123456789abcdef/mcp": "aGVsbG8x0123456789abcdef",
    "GET https://host/mcp?key=hunter2&sig=x: 403": "hunter2",
    "GET https://host/mcp?page=1&sig=hunter2": "hunter2",
    "https://hunter2@host/1": "hunter2",
    "redis://:hunter2@host": "hunter2",
    "https://u:hun/ter2@host": "ter2",
    "https://host/mcp#hunter2": "hunter2",
    "cookie: a=b; c=hunter2": "hunter2",
    "Proxy-Authorization: Digest username=a, hunter2": "hunter2",
    "token: 'hunter 2'": "hunter 2",
    '{\\"token\\":\\"hunter2\\"}': "hunter2",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----": "MIIabc",
    "-----BEGIN PRIVATE KEY-----\nMIIcut": "MIIcut",
}


@pytest.mark.parametrize("text", TEXTS)
def test_known_forms_of_credentials_are_taken_from_logs(text: str) -> None:
    cleaned = Redactor().clean_text(f"before\n{text}\nafter")
    assert TEXTS[text] not in cleaned
    assert "before" in cleaned


@pytest.mark.parametrize(
    "args",
    [
        ["--db-pass", "hunter2"],
        ["-p", "hunter2"],
        ["--pin=hunter2"],
        ["--header", "X-Key: hunter2"],
        ["--config", '{"apiKey": "hunter2"}'],
        ["redis://:hunter2@host"],
        ["https://host/mcp?key=hunter2"],
        ["-c", "exec server --pass hunter2"],
        ["-c", "server 'hunter2"],
    ],
)
def test_the_options_of_programs_lose_their_values(args: list[str]) -> None:
    stdio = {"command": "server", "args": ["run", *args]}
    taken = Redactor().take_object({"kind": "MCPProxy", "spec": {"backends": [{"stdio": stdio}]}})
    assert "hunter2" not in json.dumps(taken)
    assert taken["spec"]["backends"][0]["stdio"]["args"][0] == "run"


def test_annotations_of_others_lose_their_values() -> None:
    annotations = {
        "deployment.kubernetes.io/revision": "3",
        "vault.hashicorp.com/agent-inject-template-x": "export P=hunter2",
        "fakekubernetes.io/x": "hunter2",
    }
    taken = Redactor().take_object({"kind": "Pod", "metadata": {"annotations": annotations}})
    assert list(taken["metadata"]["annotations"].values()) == ["3", REDACTED, REDACTED]


@pytest.mark.parametrize(
    "text",
    [
        "https://registry.example.com/@scope/package",
        "http://10.0.0.1:8080/mcp",
        "http://[::1]:8080/mcp",
        '"authorization": {"rules": []}',
        '"tokens": 1234, "tokens": null',
    ],
)
def test_texts_without_credentials_remain(text: str) -> None:
    assert Redactor().clean_text(text) == text


def test_texts_are_read_in_time_linear_in_their_length() -> None:
    begun = time.process_time()
    for start in ("a-", "token", "cookie", "-----BEGIN A ", "://a:", "a://", "eyJ", "token "):
        text = start * (100_000 // len(start))
        assert len(Redactor().clean_text(text)) <= 2 * len(text)
    # In time that is quadratic, one of them takes half a minute.
    assert time.process_time() - begun < 5


def test_a_secret_object_loses_its_data_and_its_values_everywhere() -> None:
    redactor = Redactor()
    secret = {"kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": "hunter2"}}
    assert redactor.take_object(secret)["data"] == REDACTED
    assert "hunter2" not in redactor.clean_text("log hunter2")


def test_the_last_applied_configuration_and_embedded_manifests_are_redacted() -> None:
    key = "kubectl.kubernetes.io/last-applied-configuration"
    whole = _holder("header", "hunter2!")
    content = {
        "kind": "ConfigMap",
        "metadata": {"annotations": {key: json.dumps(whole)}},
        "data": {"mcpproxy.yaml": json.dumps(whole)},
    }
    taken = json.dumps(Redactor().take_object(content))
    assert "hunter2!" not in taken
    assert "http://a/mcp" in taken


def test_references_and_ordinary_fields_remain() -> None:
    reference = {"secretKeyRef": {"name": "tok", "key": "header"}}
    backend = {
        "name": "weather",
        "url": "https://weather.example.com/mcp",
        "headers": [{"name": "Authorization", "valueFrom": reference}],
        "stdio": {"command": "npx", "args": ["-y", "@playwright/mcp@latest", "--port", "80"]},
    }
    content = {"kind": "MCPProxy", "spec": {"backends": [backend]}}
    assert Redactor().take_object(content) == content


def test_a_deeply_nested_or_unusual_object_is_accepted() -> None:
    deep: Any = "x"
    for _ in range(200):
        deep = [{"a": deep}]
    assert Redactor().take_object({"kind": "Pod", "spec": deep, "n": None, "b": True})["b"] is True
