"""Fixtures of the loop's tests."""

from collections.abc import AsyncIterator

import pytest

from tests.reconcile.stage import Stage


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """A whole operator without a cluster."""
    result = Stage()
    yield result
    await result.close()
