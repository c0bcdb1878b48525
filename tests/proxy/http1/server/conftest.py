"""Every test with a loop runs on asyncio's own and on uvloop: the library may run on either."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import pytest_asyncio
import uvloop

from tests.proxy.http1.server.served import Served

Factories = Mapping[str, Callable[[], asyncio.AbstractEventLoop]]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Factories:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest_asyncio.fixture
async def served() -> AsyncIterator[Served]:
    """A server of a small app; at the end nothing of what was asked may be left."""
    result = Served()
    await result.start()
    yield result
    await result.stop()
