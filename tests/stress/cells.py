"""The cells of the matrix: misbehaviours × transports × eras × session modes × clients' eras."""

import fnmatch
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from tests.stress.misbehaving_texts import OLD
from tests.stress.misbehaviours import ERAS, LEGACY, Misbehaviour, table

MODES: Final[dict[str, dict[str, Any]]] = {
    "Isolated": {"mode": "Isolated"},
    "PerClient": {"mode": "PerClient"},
    "Reused": {"mode": "Reused", "stateless": True},
}


@dataclass(frozen=True)
class Place:
    """A misbehaving backend on one transport, in one session mode: a cell for each client."""

    misbehaviour: Misbehaviour
    transport: str
    era: str
    mode: str

    @property
    def direct(self) -> str:
        """The name of the backend without the proxy."""
        return f"{self.misbehaviour.name} / {self.transport} / {self.era}"

    def cell(self, client: str) -> str:
        """The name of the cell with a client of this era."""
        return f"{self.direct} / {self.mode} / {client} client"


def places(modes: Iterable[str] = MODES) -> Iterator[Place]:
    """Generate the places of all cells."""
    for misbehaviour in table().values():
        for transport in misbehaviour.transports:
            for era in misbehaviour.eras:
                if transport == OLD and era != LEGACY:
                    continue
                for mode in modes:
                    yield Place(misbehaviour, transport, era, mode)


EXCEPTIONS: Final[tuple[tuple[str, str, str], ...]] = ()
"""Differences: patterns of a cell and of a step, and the reason."""


def excepted(cell: str, step: str) -> str:
    """Return the reason why a step of a cell may differ, or nothing."""
    for cells, steps, reason in EXCEPTIONS:
        if fnmatch.fnmatchcase(cell, cells) and fnmatch.fnmatchcase(step, steps):
            return reason
    return ""


CLIENTS: Final = ERAS
