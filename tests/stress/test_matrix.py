"""Misbehaving backends: a client gets through the proxy what it gets from the backend itself."""

import asyncio
import itertools
import logging
from collections.abc import Iterator
from typing import Final

import httpx2
import pytest

from tests.proxy.runtime.serving import LIVE
from tests.stress.cells import CLIENTS, MODES, Place, places
from tests.stress.size import FULL, PART
from tests.stress.staged import CONTROL, Stage

pytestmark = [*LIVE, pytest.mark.timeout(200), pytest.mark.slow]
BACKENDS: Final = 60
"""Backends behind one proxy."""
PROXIES: Final = 4
"""Proxies that are idle at the same time."""


def _shares() -> list[list[list[Place]]]:
    """The cells by test and by proxy; one proxy of one test unless all are wanted."""
    # The places of a cell are in the order of their modes: a part has all of them.
    step = PART + 1 if FULL and PART % len(MODES) == 0 else PART
    cells = list(places())[:: step or 1]
    results = [list(group) for _, group in itertools.groupby(cells, lambda cell: cell.direct)]
    count = -(-len(cells) // BACKENDS)
    proxies = [list(itertools.chain(*results[number::count])) for number in range(count)]
    if not FULL:
        return [proxies[:1]]
    return [proxies[first : first + PROXIES] for first in range(0, count, PROXIES)]


def _named(share: list[list[Place]]) -> str:
    return f"{sum(map(len, share)) * len(CLIENTS)}-cells"


@pytest.fixture
def quiet() -> Iterator[None]:
    """No logs: the SDK's client has a traceback for each message that it can't read."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("share", _shares(), ids=_named)
async def test_a_client_gets_the_response_of_a_misbehaving_backend_through_the_proxy(
    share: list[list[Place]],
) -> None:
    alone = asyncio.Lock()
    async with httpx2.AsyncClient(timeout=30) as http:
        stages = [Stage(cells, http) for cells in share]
        await asyncio.gather(*(stage.run(alone) for stage in stages))
    wrong = [item for stage in stages for item in stage.wrong]
    assert wrong == []


@pytest.mark.usefixtures("quiet")
async def test_a_well_behaved_backend_gives_a_client_a_result_in_each_step() -> None:
    async with httpx2.AsyncClient(timeout=30) as http:
        stage = Stage([], http)
        async with stage.served():
            outcomes = await stage.directly(CONTROL)
    assert outcomes.pop("failing call").kind == "error"
    assert {outcome.kind for outcome in outcomes.values()} == {"result"}
