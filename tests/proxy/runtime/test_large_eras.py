"""Large responses to clients of another era than the backend's."""

import asyncio
from typing import Any

import pytest

from tests.proxy.runtime.large import HALF, RESULT, SHOWN, Client, written
from tests.proxy.runtime.serving import LIVE
from tests.proxy.runtime.shaped import SESSIONS, plain, stage

pytestmark = LIVE
FORMS = ("length", "events")
LEGACY_RESULT = {name: value for name, value in RESULT.items() if name != "resultType"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["legacy", *SESSIONS])
async def test_a_large_response_of_a_legacy_backend_reaches_a_modern_client_as_it_arrives(
    proxy: Any, http: Any, kind: str, form: str
) -> None:
    async with stage(proxy, http, kind, plain, "30s", client_kind="modern") as (backend, raw):
        client = Client(raw, "modern")

        async def write(request_id: Any, writer: asyncio.StreamWriter) -> None:
            whole = written(form, request_id, LEGACY_RESULT)
            writer.write(whole[:HALF])
            await client.began.wait()
            writer.write(whole[HALF:])

        backend.writes = write
        async with asyncio.timeout(10):
            answer = await client.message()
        assert answer == {
            "jsonrpc": "2.0",
            "id": "mine",
            "result": {"content": SHOWN, "resultType": "complete"},
        }


@pytest.mark.parametrize("form", FORMS)
async def test_a_large_response_of_a_modern_backend_reaches_a_legacy_client(
    proxy: Any, http: Any, form: str
) -> None:
    async with stage(proxy, http, "modern", plain, "30s", client_kind="legacy") as (backend, raw):

        async def write(request_id: Any, writer: asyncio.StreamWriter) -> None:
            writer.write(written(form, request_id))

        backend.writes = write
        async with asyncio.timeout(10):
            answer = await Client(raw, "legacy").message()
        assert answer == {"jsonrpc": "2.0", "id": "mine", "result": {"content": SHOWN}}
