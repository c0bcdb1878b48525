"""A certified OpenID Connect provider, and clients of other makers that sign in by themselves."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from mcp.client.auth import OAuthClientProvider
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider

from scripts import npm
from scripts.demo_local import free_ports
from scripts.machine import ROOT
from tests.peers.browser import Browser
from tests.peers.protected import AGENT, SCOPE, TOOLS, Protected, serving_protected
from tests.peers.sdk_sign_in import Storage, interactive, list_tools
from tests.peers.world import CLIENT_SECONDS, INSPECTOR, NODE, Server, ask

pytestmark = [pytest.mark.peers, pytest.mark.timeout(180)]

REMOTE: Final = os.fspath(npm.module("mcp-remote", "dist/proxy.js"))
BROWSER: Final = (sys.executable, "-m", "tests.peers.browser")


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Protected]:
    """The proxy in front of one server; its clients need tokens of the provider."""
    with serving_protected(tmp_path_factory.mktemp("protected")) as result:
        yield result


async def test_the_proxy_accepts_tokens_of_a_certified_provider(protected: Protected) -> None:
    assert await protected.status(protected.token(resource=protected.url)) == 200


async def test_the_proxy_refuses_a_changed_token_of_the_provider(protected: Protected) -> None:
    head, payload, signature = protected.token(resource=protected.url).split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    claims["sub"] = "root"
    changed = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    assert await protected.status(f"{head}.{changed}.{signature}") == 401


def _interactive(url: str, storage: Storage) -> OAuthClientProvider:
    return interactive(url, storage, Browser().sign_in, "http://127.0.0.1:9/callback")


async def test_the_python_sdk_signs_in_by_authorization_code(protected: Protected) -> None:
    storage = Storage()
    assert await list_tools(protected.url, _interactive(protected.url, storage)) == TOOLS
    assert storage.steps == ["registered", "browser", "token"]
    # Another connection with the token that is kept signs in no more.
    assert await list_tools(protected.url, _interactive(protected.url, storage)) == TOOLS
    assert storage.steps == ["registered", "browser", "token"]


async def test_the_python_sdk_refreshes_a_token_that_the_proxy_refuses(
    protected: Protected,
) -> None:
    storage = Storage()
    auth = _interactive(protected.url, storage)
    assert await list_tools(protected.url, auth) == TOOLS
    assert storage.tokens is not None
    assert storage.tokens.refresh_token
    auth.context.token_expiry_time = 1.0
    assert await list_tools(protected.url, auth) == TOOLS
    assert storage.steps == ["registered", "browser", "token", "token"]


async def test_the_python_sdk_signs_in_by_client_credentials(protected: Protected) -> None:
    storage = Storage()
    auth = ClientCredentialsOAuthProvider(
        protected.url, storage, *AGENT, scope=SCOPE, issuer=protected.issuer
    )
    assert await list_tools(protected.url, auth) == TOOLS
    assert "token" in storage.steps


def _typescript(*arguments: str) -> Any:
    done = subprocess.run(
        [NODE, "oauth.mjs", *arguments],
        cwd=npm.PEERS,
        env=_environment({}),
        capture_output=True,
        text=True,
        timeout=CLIENT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    # The browser is a module of these tests.
    path = os.pathsep.join([os.fspath(ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, **more}


@pytest.mark.parametrize("major", ["1", "2"])
def test_the_typescript_sdk_signs_in_by_authorization_code(
    protected: Protected, major: str
) -> None:
    callback = "http://127.0.0.1:9/callback"
    printed = _typescript(major, protected.url, callback, *BROWSER, "--stay")
    assert printed["first"] == printed["second"] == TOOLS
    assert printed["steps"] == ["registered", "browser", "token"]


def test_the_typescript_sdk_signs_in_by_client_credentials(protected: Protected) -> None:
    printed = _typescript("2", protected.url, "-", *AGENT)
    assert printed["first"] == printed["second"] == TOOLS


@pytest.fixture
def browser(tmp_path: Path) -> dict[str, str]:
    """The environment of a desktop whose browser signs in by itself."""
    program = tmp_path / "bin" / "xdg-open"
    program.parent.mkdir()
    log = tmp_path / "browser.log"
    command = " ".join(f"'{word}'" for word in BROWSER)
    program.write_text(f'#!/bin/sh\necho "$1" >>"{log}"\nexec {command} "$1"\n', encoding="utf-8")
    program.chmod(0o755)
    path = os.pathsep.join([os.fspath(program.parent), os.environ["PATH"]])
    return _environment({"PATH": path, "BROWSER": os.fspath(program), "HOME": os.fspath(tmp_path)})


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
def test_mcp_remote_signs_in_for_a_client_without_oauth(
    protected: Protected, browser: dict[str, str], mode: str, tmp_path: Path
) -> None:
    [port] = free_ports(1)
    names = ("PATH", "BROWSER", "HOME", "PYTHONPATH")
    variables = [f"{name}={browser[name]}" for name in names]
    command = ["env", *variables, NODE, REMOTE, protected.url, str(port), "--allow-http"]
    answers = ask(Server("stdio", json.dumps(command)), mode, [("tools/list", {})])
    listed = answers["answers"][0]["result"]["tools"]
    assert sorted(tool["name"] for tool in listed) == TOOLS
    assert (tmp_path / "browser.log").read_text(encoding="utf-8").count(protected.issuer) == 1


def test_the_inspector_registers_itself_and_signs_in(
    protected: Protected, browser: dict[str, str], tmp_path: Path
) -> None:
    [port] = free_ports(1)
    callback = f"http://127.0.0.1:{port}/callback"
    command = [NODE, INSPECTOR, "--cli", protected.url, "--transport", "http"]
    command += ["--callback-url", callback, "--method", "tools/list", "--format", "json"]
    opens = {"MCP_AUTO_OPEN_ENABLED": "true", "MCP_INSPECTOR_SECRET_STORE": "memory"}
    done = subprocess.run(
        command,
        env={**browser, **opens},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=CLIENT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout)["result"]["tools"]
    assert sorted(tool["name"] for tool in listed) == TOOLS
    assert (tmp_path / "browser.log").read_text(encoding="utf-8").count(protected.issuer) == 1
