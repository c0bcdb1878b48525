"""Programs on a pseudo terminal of any size, as a person sees them."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

COMMAND = str(Path(sys.executable).with_name("mcpproxy"))
PATIENCE = 50.0
"""Seconds until a program must have printed an expected text."""
_SEQUENCE = re.compile(rb"\x1b\[(?:[0-9;]*m|2K|1A|\?25[hl])")
"""Sequences of the library that draws: styles, and movements of the live table."""


class Screen:
    """A program and all that it has written to its terminal."""

    def __init__(self, command: list[str], env: Mapping[str, str], size: tuple[int, int]) -> None:
        rows, columns = size
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            with contextlib.suppress(OSError):
                os.execvpe(command[0], command, dict(env))
            os._exit(127)
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.raw = b""
        self.code: int | None = None

    @property
    def text(self) -> str:
        """The text without the sequences of the library, with other control characters."""
        return _SEQUENCE.sub(b"", self.raw).decode(errors="replace").replace("\r\n", "\n")

    def type(self, keys: str) -> None:
        """Type keys; \\x03 is Ctrl-C."""
        os.write(self._terminal, keys.encode())

    def wait_for(self, shown: str | Callable[[str], bool]) -> str:
        """Return the text once it has an expected part."""
        deadline = time.monotonic() + PATIENCE
        while not (shown in self.text if isinstance(shown, str) else shown(self.text)):
            assert time.monotonic() < deadline, self.text
            assert self._read(), self.text
        return self.text

    def end(self) -> str:
        """Return the whole text of a program that ends; `code` is its exit code."""
        deadline = time.monotonic() + PATIENCE
        while self._read():
            assert time.monotonic() < deadline, self.text
        self._reap()
        return self.text

    def _read(self) -> bool:
        ready, _, _ = select.select([self._terminal], [], [], 1.0)
        if not ready:
            return True
        try:
            chunk = os.read(self._terminal, 65536)
        except OSError:
            # The program has closed the terminal.
            chunk = b""
        self.raw += chunk
        return bool(chunk)

    def _reap(self) -> None:
        if self.code is None:
            _, status = os.waitpid(self.pid, 0)
            self.code = os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        """Kill the program if it runs."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._reap()
        os.close(self._terminal)


@contextlib.contextmanager
def screen(
    *arguments: str,
    size: tuple[int, int] = (30, 100),
    env: Mapping[str, str] | None = None,
) -> Iterator[Screen]:
    """Run `mcpproxy` with arguments on a terminal of rows and columns."""
    own = env or {}
    whole = {**os.environ, "TERM": "xterm-256color", **own}
    for name in {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"} - own.keys():
        whole.pop(name, None)
    shown = Screen([COMMAND, *arguments], whole, size)
    try:
        yield shown
    finally:
        shown.close()
