"""Every test with a loop runs on asyncio's own and on uvloop, as those of the HTTP server do."""

from tests.proxy.http1.server.conftest import (
    pytest_asyncio_loop_factories as pytest_asyncio_loop_factories,
)
from tests.proxy.http1.server.conftest import served as served
