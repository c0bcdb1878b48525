"""Opening of sessions before a request needs them: by callbacks in the usual case, without a task.

A session of an `Isolated` backend serves one request, so each call pays for one opening.
"""

from collections.abc import Awaitable, Callable

from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.upstream.sessions.lifecycle import SessionLifecycle
from mcpproxy.proxy.upstream.transports.session import OnOpened, Rest, TaskSet, UpstreamSession

Opening = Awaitable[UpstreamSession]
BeginOpen = Callable[[ClientIdentity, OnOpened], bool]
Done = Callable[[UpstreamSession | None], None]


class AdvanceOpenings:
    """Opens sessions of one backend in advance."""

    def __init__(
        self,
        upstream: SessionLifecycle,
        background: TaskSet,
        begin_open: BeginOpen | None,
        open_in_task: Callable[[ClientIdentity], Opening],
        prepare: Callable[[ClientIdentity, UpstreamSession], Opening | None],
    ) -> None:
        """`begin_open` opens a session by callbacks, or returns False if that requires waiting;
        `open_in_task` then opens one. `prepare` records a session that callbacks have opened, and
        returns the work that remains to be done before its first request."""
        self._upstream = upstream
        self._background = background
        self._begin_open = begin_open
        self._open_in_task = open_in_task
        self._prepare = prepare

    def begin(self, client: ClientIdentity, done: Done) -> None:
        """Open a session. `done` gets it, or None if it could not be opened."""
        if not self._begin(client, done):
            self._background.spawn(self._finish(self._open_in_task(client), done))

    def _begin(self, client: ClientIdentity, done: Done) -> bool:
        """Open a session by callbacks, or return False if that requires waiting."""
        upstream, begin_open = self._upstream, self._begin_open
        if begin_open is None or not upstream.admits(client):
            return False

        def opened(link: UpstreamSession | None) -> None:
            upstream.end_opening(number, began, link)
            work = None if link is None else self._prepare(client, link)
            if work is None:
                finished(link)
            else:
                self._background.spawn(self._finish(work, finished))

        def finished(link: UpstreamSession | None) -> None:
            done(link)
            upstream.release()

        def ended(link: UpstreamSession | None, rest: Rest | None) -> None:
            if rest is None or upstream.is_over:
                opened(link)
            else:
                self._background.spawn(self._finish(rest(), opened))

        if not begin_open(client, ended):
            return False
        number, began = upstream.begin_opening(client)
        upstream.hold()
        return True

    @staticmethod
    async def _finish(opening: Opening, done: Done) -> None:
        """Continue in a task where callbacks could not."""
        link = None
        try:
            link = await opening
        except BackendError:
            return
        finally:
            done(link)
