"""Requests of clients that are not what the schema says, but that SDK servers accept."""

import json
from typing import Any

import pytest

from tests.proxy.runtime.raw import MODERN, Raw, last, modern
from tests.proxy.runtime.serving import LIVE

pytestmark = LIVE

ERAS = ("legacy", "modern")
BOM = b"\xef\xbb\xbf"


async def _echoed(eras: Any, http: Any, era: str, written: str, prefix: bytes = b"") -> Any:
    """Return the argument `a` as the tool received it, which the request encodes in this way."""
    client = Raw(eras[era][1].url, http)
    headers = {}
    if era == "legacy":
        await client.initialize()
    else:
        headers = {
            "mcp_protocol_version": MODERN,
            "mcp_method": "tools/call",
            "mcp_name": "p_echo",
        }
    message = modern("tools/call", name="p_echo", arguments={"a": "@"})
    body = prefix + json.dumps(message).replace('"@"', written).encode()
    return last(await client.post(body, **headers))["result"]["structuredContent"]["a"]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("NaN", None),
        ("-Infinity", None),
        ('"cut \\ud83d"', "cut \ufffd"),
        ('"\\ud83d\\ude00"', "\U0001f600"),
    ],
)
async def test_arguments_that_json_cannot_express_reach_the_tool(
    eras: Any, http: Any, era: str, written: str, expected: Any
) -> None:
    assert await _echoed(eras, http, era, written) == expected


@pytest.mark.parametrize("era", ERAS)
async def test_a_byte_order_mark_before_a_body_is_passed_over(
    eras: Any, http: Any, era: str
) -> None:
    assert await _echoed(eras, http, era, "1", BOM) == 1


async def test_a_notification_with_null_params_is_accepted(eras: Any, http: Any) -> None:
    client = Raw(eras["legacy"][1].url, http)
    await client.initialize()
    told = {"jsonrpc": "2.0", "method": "notifications/initialized", "params": None}
    assert (await client.post(told)).status_code == 202


@pytest.mark.parametrize("identified", [{}, {"id": None}, {"id": "nobody"}])
async def test_an_error_without_a_usable_id_is_accepted_from_a_client(
    eras: Any, http: Any, identified: Any
) -> None:
    client = Raw(eras["legacy"][1].url, http)
    await client.initialize()
    error = {"code": -1, "message": "no"}
    assert (await client.post({"jsonrpc": "2.0", **identified, "error": error})).status_code == 202
