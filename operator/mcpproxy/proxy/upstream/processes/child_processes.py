"""Child processes that end with this process, even after SIGKILL or the OOM killer.

Two mechanisms complement each other. The kernel kills a child when the thread that started it ends
(PR_SET_PDEATHSIG): immediately, but without the child's own children, such as the server behind npx
or uvx. For these a small process, the guardian, kills their process groups when the pipe from this
process closes. The first process of a container needs no guardian, because the kernel kills all
others with it.
"""

import atexit
import contextlib
import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from mcpproxy.proxy.upstream.processes import guardian as program

_PR_SET_PDEATHSIG: Final = 1
_KEPT_VARIABLES: Final = ("LD_LIBRARY_PATH",)
"""Variables that an interpreter may need to start."""
_CLOSE_GRACE: Final = 0.5
"""Seconds that the guardian has to exit at an orderly end of this process."""
_POLL_INTERVAL: Final = 0.005

log = logging.getLogger("mcpproxy.stdio")


def _load_prctl() -> Any:
    """Return prctl(2), or None on other systems than Linux."""
    # PyDLL keeps the GIL: after a fork, before exec, no other thread could release it.
    prctl = getattr(ctypes.PyDLL(None), "prctl", None) if sys.platform == "linux" else None
    if prctl is not None:
        prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)
    return prctl


_prctl: Final = _load_prctl()


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when `parent`, the process that started it, ends."""
    if _prctl is None:
        return
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        # The parent ended before the call.
        os._exit(1)


def before_exec() -> Callable[[], None] | None:
    """Return the function that a child process calls between fork and exec; None on other systems.

    The function allocates next to nothing, imports nothing and takes no lock, because other threads
    may have held one at the fork.
    """
    if _prctl is None:
        return None
    parent, arm = os.getpid(), die_with_parent
    return lambda: arm(parent)


class ProcessGuardian:
    """Kills process groups when this process ends. Started with the first group."""

    def __init__(self) -> None:
        self._pipe: int | None = None
        self._process = 0
        self._started_by = 0

    def watch(self, group: int) -> None:
        """Kill this process group when this process ends."""
        if os.getpid() == 1:
            return
        if self._pipe is None or self._started_by != os.getpid():
            self._start()
        self._send(b"+%d\n" % group)

    def forget(self, group: int) -> None:
        """Do not kill this process group; its processes have ended."""
        self._send(b"-%d\n" % group)

    def _send(self, line: bytes) -> None:
        if self._pipe is not None and self._started_by == os.getpid():
            # A guardian that was killed or stopped must not block this process.
            with contextlib.suppress(OSError):
                os.write(self._pipe, line)

    def _start(self) -> None:
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        command = [sys.executable, "-IS", program.__file__]
        env = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        null = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_RDWR, 0)
        actions = [(os.POSIX_SPAWN_DUP2, read_end, 0), null, (os.POSIX_SPAWN_DUP2, 1, 2)]
        try:
            self._process = os.posix_spawn(
                command[0], command, env, file_actions=actions, setsid=True
            )
        except (OSError, NotImplementedError, TypeError, ValueError) as error:
            log.warning(
                "child processes of stdio servers may keep running if the proxy is killed: %s",
                error,
            )
            os.close(write_end)
            return
        finally:
            os.close(read_end)
        self._pipe, self._started_by = write_end, os.getpid()
        atexit.register(self.close)

    def close(self) -> None:
        """Kill the remaining groups and end the guardian."""
        if self._pipe is None or self._started_by != os.getpid():
            return
        os.close(self._pipe)
        self._pipe = None
        end = time.monotonic() + _CLOSE_GRACE
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(self._process, os.WNOHANG)[0] == 0 and time.monotonic() < end:
                time.sleep(_POLL_INTERVAL)


guardian: Final = ProcessGuardian()
"""The guardian of this process."""
