"""A headless Chromium, driven over the WebDriver protocol."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from tests.browser.driver import DRIVER, Browser, driven

_ABSENT = "chromium and chromedriver are not installed (Debian: chromium, chromium-driver)"


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    """One browser with a profile of its own."""
    if shutil.which(DRIVER) is None:
        if os.environ.get("CI"):
            pytest.fail(_ABSENT)
        pytest.skip(_ABSENT)
    profile: Path = tmp_path_factory.mktemp("chromium")
    async with driven(profile) as result:
        yield result


@pytest_asyncio.fixture(loop_scope="session")
async def stack() -> AsyncIterator[AsyncExitStack]:
    """Ends everything that a test started, in reverse order."""
    async with AsyncExitStack() as result:
        yield result
