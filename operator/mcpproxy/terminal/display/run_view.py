"""Live view of a running proxy: its URL, clients' configuration, backends, and the log above it.

A thread draws, so that a terminal that is stopped or slow never delays a call.
"""

import contextlib
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import IO, Final, Protocol, cast

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.api.v1alpha1.status import PodReport
from mcpproxy.client_snippets import SHOWN, client_snippets
from mcpproxy.limits.clients import LOG_RECORDS
from mcpproxy.plan.local.remedies import with_remedies
from mcpproxy.proxy.core.reports import InstanceReport
from mcpproxy.proxy.process import LAST_LINES
from mcpproxy.terminal.display.rows import (
    STARTING,
    BackendLine,
    rows_of,
    summarize_rest,
    summarize_rows,
)
from mcpproxy.text_logs import TextLogFormatter

_STDERR: Final = 2
FRAME: Final = 0.25
"""Seconds between two pictures while a backend starts."""
SMALL: Final = 60
"""Columns of a screen that cuts long reasons."""
OTHER_LINES: Final = 6
"""Lines of the screen that are not rows of backends."""
_STYLES: Final = {
    "Healthy": "green",
    "Degraded": "yellow",
    "RateLimited": "yellow",
    "Unhealthy": "red",
    "Unauthorized": "red",
}
_LOG_STYLES: Final = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red", "DEBUG": "dim"}


class ReportSource(Protocol):
    """A proxy that reports the state of its backends."""

    def report(self) -> InstanceReport | PodReport:
        """Return the report."""

    def watch(self, watcher: Callable[[], None]) -> Callable[[], None]:
        """Call `watcher` when the report may have changed; return the canceller."""


class _StandardError:
    """Standard error without a buffer, whose lock a stopped terminal could hold at exit."""

    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        data = text.encode(self.encoding, "backslashreplace")
        # The terminal may be gone.
        with contextlib.suppress(OSError):
            while data:
                data = data[os.write(_STDERR, data) :]
        return len(text)

    def flush(self) -> None:
        """Nothing is kept."""

    def isatty(self) -> bool:
        return os.isatty(_STDERR)

    def fileno(self) -> int:
        return _STDERR


class _LogHandler(logging.Handler):
    """Handler that passes lines to the view."""

    def __init__(self, put: Callable[[RenderableType], None]) -> None:
        super().__init__()
        self.setFormatter(TextLogFormatter())
        self._put = put

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._put(Text(self.format(record), style=_LOG_STYLES.get(record.levelname, "")))
        except Exception:
            self.handleError(record)


class TerminalView:
    """View on standard error of a proxy that serves HTTP."""

    def __init__(self, *, live: bool) -> None:
        """Start the thread. Without `live`, the table is written once all backends are known."""
        self._console = Console(
            file=cast(IO[str], _StandardError()), highlight=False, markup=False, emoji=False
        )
        self._is_live = live and not self._console.is_dumb_terminal
        self._queue: queue.Queue[RenderableType | None] = queue.Queue(LOG_RECORDS.value)
        self._dropped = 0
        self._rows: list[BackendLine] | None = None
        self._thread = threading.Thread(target=self._run, name="view", daemon=True)
        self._thread.start()

    def log_handler(self) -> logging.Handler:
        """Return the handler for the log while the view is open."""
        return _LogHandler(self._put)

    def serving(self, proxy: ReportSource, url: str, spec: MCPProxy) -> None:
        """Show a proxy, whose ports are open. Must be called in the event loop."""
        self._put(_heading(spec.metadata.name, url))

        def changed() -> None:
            backends = with_remedies(proxy.report().backends, spec.spec.backends)
            self._rows = rows_of(backends)
            self._put("")

        proxy.watch(changed)
        changed()

    def close(self) -> None:
        """Write the rest of the log and the last table, and end the thread."""
        if self._thread.is_alive():
            with contextlib.suppress(queue.Full):
                self._queue.put_nowait(None)
            self._thread.join(LAST_LINES)

    def _put(self, item: RenderableType) -> None:
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            LOG_RECORDS.record()
            self._dropped += 1

    def _run(self) -> None:
        drawn: list[BackendLine] | None = None
        with ExitStack() as stack:
            live: Live | None = None
            while (item := self._next()) is not None:
                if item != "":
                    self._console.print(item, soft_wrap=True)
                if self._dropped:
                    dropped, self._dropped = self._dropped, 0
                    self._console.print(f"dropped {dropped} log lines: the terminal is too slow")
                rows = self._rows
                if rows is None:
                    continue
                if self._is_live:
                    live = live or self._open(stack)
                    if rows != drawn or _is_starting(rows):
                        live.update(self._table(rows), refresh=True)
                        drawn = rows
                elif drawn is None and not _is_starting(rows):
                    self._console.print(self._table(rows))
                    drawn = rows

    def _next(self) -> RenderableType | None:
        """Return the next item, or an empty text when it is time for the next picture."""
        moves = self._is_live and self._rows is not None and _is_starting(self._rows)
        try:
            return self._queue.get(timeout=FRAME if moves else None)
        except queue.Empty:
            return ""

    def _open(self, stack: ExitStack) -> Live:
        live = Live(
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        stack.enter_context(live)
        # A process that is killed could not show it again.
        self._console.show_cursor(True)
        return live

    def _table(self, rows: list[BackendLine]) -> RenderableType:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("BACKEND", no_wrap=True)
        table.add_column("STATE", no_wrap=True)
        table.add_column("TOOLS", justify="right")
        # Each reason on a line of its own would push the table off a small screen.
        is_small = self._is_live and self._console.width < SMALL
        table.add_column("REASON", overflow="ellipsis" if is_small else "fold", no_wrap=is_small)
        room = max(1, self._console.height - OTHER_LINES) if self._is_live else len(rows)
        for row in rows[:room]:
            table.add_row(Text(row.name), self._state(row), row.tools, Text(row.note))
        lines: list[RenderableType] = [Text(""), table]
        if len(rows) > room:
            lines.append(Text(summarize_rest(rows[room:]), style="dim"))
        lines.append(Text(f"{summarize_rows(rows)}. Ctrl-C stops.", style="dim"))
        return Group(*lines)

    def _state(self, row: BackendLine) -> RenderableType:
        if row.state == STARTING and self._is_live:
            # The spinner moves with each picture.
            return Spinner("line", text=STARTING)
        return Text(row.state, style=_STYLES.get(row.state, "dim"))


def _is_starting(rows: list[BackendLine]) -> bool:
    return any(row.state == STARTING for row in rows)


def _heading(name: str, url: str) -> Text:
    text = Text.assemble(
        "\nServing ", (name, "bold"), " at ", (url, "bold"), "\n\nConnect a client:\n"
    )
    for snippet in client_snippets(name, url):
        if snippet.client in SHOWN:
            text.append(f"  {snippet.title}\n", style="dim")
            text.append(f"    {snippet.text}\n")
    text.append("  Call a tool here\n", style="dim")
    text.append(f"    mcpproxy list {url}")
    return text
