"""Credentials with which commands connect to a proxy that authenticates its clients."""

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from starlette.responses import RedirectResponse, Response

from mcpproxy.plan.credentials import TOKEN, redact_values
from tests.plan.planning import plan, proxy
from tests.proxy.runtime.issuing import IssuerServer, issuing
from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.serving import LIVE, proxied, serving
from tests.support.commands import run_command

pytestmark = LIVE
SECRET = "s3cr3t-t0ken"


class Guarded:
    """A proxy with authentication, and a manifest of its backend."""

    def __init__(self, url: str, file: Path, issuer: IssuerServer) -> None:
        self.url = url
        self.file = file
        self.token = issuer.token().removeprefix("Bearer ")


@pytest_asyncio.fixture(loop_scope="session")
async def guarded(stack: AsyncExitStack, tmp_path: Path) -> Any:
    issuer = await stack.enter_async_context(issuing())
    base = await stack.enter_async_context(serving(Peer("p").gate))
    backend = {"name": "p", "url": f"{base}/mcp"}
    running = await stack.enter_async_context(proxied(backend, **issuer.spec()))
    return Guarded(running.url, proxy(tmp_path / "f.yaml", backend), issuer)


async def test_a_proxy_with_authentication_is_compared_with_a_token(
    guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = await plan("-f", guarded.file, "--against", guarded.url)
    assert refused.code == 1
    file = tmp_path / "token"
    file.write_text(guarded.token + "\n")
    against = ("-f", guarded.file, "--against", guarded.url)
    by_file = await plan(*against, "--token-file", file)
    by_header = await plan(*against, "-H", f"Authorization: Bearer {guarded.token}")
    monkeypatch.setenv(TOKEN, guarded.token)
    by_environment = await plan(*against)
    for result in (by_file, by_header, by_environment):
        assert (result.code, "no differences" in result.out) == (0, True), result.err
        assert guarded.token not in result.out + result.err


async def test_the_other_commands_take_a_token_as_well(guarded: Guarded, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(guarded.token)
    result = await run_command("list", guarded.url, "tools", "--token-file", file)
    assert (result.code, "p_echo" in result.out) == (0, True)


async def test_a_redirect_does_not_carry_credentials(stack: AsyncExitStack, tmp_path: Path) -> None:
    seen: list[bytes] = []

    async def other(scope: Any, receive: Any, send: Any) -> None:
        seen.extend(value for _, value in scope["headers"])
        await Response(status_code=404)(scope, receive, send)

    elsewhere = await stack.enter_async_context(serving(other))

    async def redirecting(scope: Any, receive: Any, send: Any) -> None:
        await RedirectResponse(f"{elsewhere}/mcp", 307)(scope, receive, send)

    base = await stack.enter_async_context(serving(redirecting))
    backend = {"name": "p", "url": f"{elsewhere}/mcp"}
    file = proxy(tmp_path / "f.yaml", {**backend, "optional": True})
    header = f"Authorization: Bearer {SECRET}"
    result = await plan("-f", file, "--against", f"{base}/mcp", "-H", header)
    assert result.code == 1
    listed = await run_command("list", f"{base}/mcp", "-H", header)
    assert listed.code == 1
    assert not any(SECRET.encode() in value for value in seen)
    for text in (result.out, result.err, listed.out, listed.err):
        assert SECRET not in text


async def test_a_server_that_repeats_the_token_does_not_get_it_printed(
    stack: AsyncExitStack, tmp_path: Path
) -> None:
    async def echoing(scope: Any, receive: Any, send: Any) -> None:
        value = dict(scope["headers"])[b"authorization"].decode()
        error = {"code": -32000, "message": f"bad {value}"}
        body = json.dumps({"jsonrpc": "2.0", "id": None, "error": error})
        headers = {"content-type": "application/json", "www-authenticate": value}
        await Response(body, 400, headers)(scope, receive, send)

    base = await stack.enter_async_context(serving(echoing))
    file = proxy(tmp_path / "f.yaml", {"name": "p", "url": f"{base}/mcp"})
    token = tmp_path / "token"
    token.write_text(SECRET)
    for command in (
        await plan("-f", file, "--against", f"{base}/mcp", "--token-file", token),
        await run_command("list", f"{base}/mcp", "--token-file", token),
    ):
        assert command.code == 1
        assert SECRET not in command.out + command.err


@pytest.mark.parametrize("content", ["", "two words", "t\x07", "é"])
async def test_a_file_without_a_token_is_refused(
    tmp_path: Path, guarded: Guarded, content: str
) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    result = await plan("-f", guarded.file, "--against", guarded.url, "--token-file", file)
    assert (result.code, "expected one token without spaces" in result.err) == (1, True)


async def test_options_that_would_have_no_effect_are_refused(
    tmp_path: Path, guarded: Guarded
) -> None:
    file = tmp_path / "token"
    file.write_text(SECRET)
    without = await plan("-f", guarded.file, "--token-file", file)
    assert "--token-file: needs --against with a running proxy" in without.err
    header = ("-H", f"authorization: Bearer {SECRET}")
    against = ("-f", guarded.file, "--against", guarded.url)
    both = await plan(*against, *header, "--token-file", file)
    assert "-H sets Authorization already" in both.err
    unknown = await plan(*against, "--token-file", tmp_path / "none")
    assert "No such file" in unknown.err
    assert SECRET not in without.err + both.err


async def test_a_malformed_header_is_not_repeated(guarded: Guarded) -> None:
    against = ("-f", guarded.file, "--against", guarded.url)
    result = await plan(*against, "-H", f"Bearer {SECRET}")
    assert (result.code, "expected a header, such as" in result.err) == (1, True)
    assert SECRET not in result.err


async def test_values_are_redacted_with_and_without_their_scheme() -> None:
    headers = {"Authorization": f"Bearer {SECRET}", "X-Key": "other"}
    text = f"Bearer {SECRET}, {SECRET}, other"
    assert redact_values(text, headers) == "[redacted], [redacted], [redacted]"
