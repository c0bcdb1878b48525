"""Settings of Kopf."""

from collections.abc import Iterator
from typing import Any, Final, cast

import kopf

from mcpproxy.controller.kopf_watches import selectors

STOP_SECONDS: Final = 20.0
"""Seconds within which the process ends after a signal. The grace period of its pod is longer."""


IDLE: Final = 0.05
"""Seconds for which Kopf keeps the task of an object without events: it has one for each, which
holds the object."""


NO_FINALIZER: Final = "no finalizer"
"""A name that no stored finalizer has. Kopf removes its own finalizer from every object, for which
the operator has no permission, or which another operator of Kopf has set."""


CHUNK: Final = 50
"""Objects in one page of the lists with which watches begin. Watches list at the same time, and
hold whole objects until they are stored: a page of 500 of each kind takes 60 MiB."""


class NoDifferences(kopf.DiffBaseStorage):
    """Storage without content: only handlers of changes need copies of objects to compare."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return cast(kopf.BodyEssence, {})

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: Any) -> None:
        raise AssertionError("no handler of changes is registered")


class NoProgress(kopf.ProgressStorage):
    """Storage without content: only handlers of changes have a progress."""

    def fetch(self, **_: Any) -> kopf.ProgressRecord | None:
        return None

    def store(self, **_: Any) -> None:
        raise AssertionError("no handler of changes is registered")

    def purge(self, **_: Any) -> None:
        return

    def touch(self, **_: Any) -> None:
        return

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


class NoMemo:
    """State of the handlers of an object, which have none: Kopf copies it for each object."""

    def __copy__(self) -> "NoMemo":
        return self


class Backoffs:
    """Endless pauses between failing requests of Kopf, of at most 5 seconds.

    Kopf's own pauses grow to 21 seconds, and Kopf stops the operator after the last one.
    """

    def __iter__(self) -> Iterator[float]:
        yield from (1.0, 1.0, 2.0, 3.0)
        while True:
            yield 5.0


def kopf_settings() -> kopf.OperatorSettings:
    """Return the settings with which Kopf only watches."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    # Watches of namespaces and CRDs would need permissions in the whole cluster.
    settings.scanning.disabled = True
    settings.networking.connect_timeout = 10
    settings.networking.request_timeout = 60
    settings.networking.error_backoffs = Backoffs()
    settings.watching.connect_timeout = 10
    settings.watching.server_timeout = 300
    settings.watching.chunk_size = CHUNK
    settings.queueing.idle_timeout = IDLE
    settings.persistence.diffbase_storage = NoDifferences()
    settings.persistence.progress_storage = NoProgress()
    settings.persistence.finalizer = NO_FINALIZER
    settings.process.ultimate_exiting_timeout = STOP_SECONDS
    for resource, selector in selectors().items():
        settings.watching.label_selectors[resource] = selector
    return settings
