"""The issuer of the benchmark's tokens."""

import asyncio
import json
from urllib.parse import urlencode

import pytest

from bench.tokens import TokenIssuer

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"


async def _request(
    issuer: TokenIssuer, form: dict[str, str] | None
) -> tuple[bytes, dict[str, object]]:
    """Return the status line and the content of a response; without a form, of the keys."""
    host, _, port = issuer.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = urlencode(form or {}).encode()
    line = b"GET /keys" if form is None else b"POST /token"
    writer.write(b"%b HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (line, len(body), body))
    head, _, content = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return head.partition(b"\r\n")[0], json.loads(content)


async def test_targets_that_start_together_share_one_issuer() -> None:
    issuer = TokenIssuer()
    try:
        await asyncio.gather(issuer.start(), issuer.start())
        _, content = await _request(issuer, None)
        assert list(content) == ["keys"]
    finally:
        issuer.close()


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"grant_type": "client_credentials"}, b"200"),
        ({"grant_type": EXCHANGE, "subject_token": "x"}, b"200"),
        ({"grant_type": EXCHANGE}, b"400"),
        ({"grant_type": "password"}, b"400"),
    ],
    ids=["own", "exchanged", "nothing to exchange", "unknown"],
)
async def test_the_issuer_grants_a_token_for_a_backend(form: dict[str, str], status: bytes) -> None:
    issuer = TokenIssuer()
    try:
        await issuer.start()
        line, content = await _request(issuer, form)
    finally:
        issuer.close()
    assert line.split()[1] == status
    assert ("access_token" in content) is (status == b"200")
