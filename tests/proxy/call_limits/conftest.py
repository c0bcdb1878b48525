"""Instances that count calls together."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest_asyncio

from tests.proxy.call_limits.crowd import PER_MINUTE, Clock, Crowd, a_rule


@pytest_asyncio.fixture
async def crowds() -> AsyncIterator[Callable[..., Any]]:
    """Starts instances; they end with the test."""
    started: list[Crowd] = []

    async def start(count: int, *rules: Any, **options: Any) -> Crowd:
        rules = rules or (a_rule(calls=PER_MINUTE, window="1m"),)
        crowd = Crowd(Clock(), rules, **options)
        started.append(crowd)
        for number in range(count):
            await crowd.start(number + 1)
        crowd.messages.clear()
        return crowd

    yield start
    for crowd in started:
        await crowd.stop()
