"""Child processes that end with this process, however it ends: SIGKILL and the OOM killer included.

Two mechanisms, since neither covers everything. The kernel kills a child when the thread that
started it ends (PR_SET_PDEATHSIG): at once, but not what that child has started itself, such as
the server behind npx or uvx. For these a small process, the guardian, kills their process groups
when the pipe from this process ends. As the first process of a container there is no need of it:
the kernel ends all others with that one.
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
_PASSED_ON: Final = ("LD_LIBRARY_PATH",)
"""Variables that an interpreter may need to start."""
_LAST: Final = 0.5
"""Seconds that the guardian has to end at an orderly end of this process."""
_STEP: Final = 0.005

log = logging.getLogger("mcpproxy.stdio")


def _found() -> Any:
    """Return prctl(2), or None on other systems than Linux."""
    # PyDLL keeps the GIL: after a fork, before exec, there is nobody to give it back.
    prctl = getattr(ctypes.PyDLL(None), "prctl", None) if sys.platform == "linux" else None
    if prctl is not None:
        prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)
    return prctl


_prctl: Final = _found()


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when `parent`, the process that started it, ends."""
    if _prctl is None:
        return
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        # It ended before.
        os._exit(1)


def before_exec() -> Callable[[], None] | None:
    """Return what a child process is to call between fork and exec; None on other systems.

    It allocates next to nothing, imports nothing and takes no lock, as other threads may have held
    one at the fork.
    """
    if _prctl is None:
        return None
    parent, arm = os.getpid(), die_with_parent
    return lambda: arm(parent)


class ProcessGuardian:
    """Kills process groups when this process ends. Started with the first of them."""

    def __init__(self) -> None:
        self._pipe: int | None = None
        self._process = 0
        self._started_by = 0

    def watch(self, group: int) -> None:
        """Kill this process group at the end."""
        if os.getpid() == 1:
            return
        if self._pipe is None or self._started_by != os.getpid():
            self._start()
        self._send(b"+%d\n" % group)

    def forget(self, group: int) -> None:
        """Leave this process group alone: its processes have ended."""
        self._send(b"-%d\n" % group)

    def _send(self, line: bytes) -> None:
        if self._pipe is not None and self._started_by == os.getpid():
            # One that was killed or stopped must not hold up anything.
            with contextlib.suppress(OSError):
                os.write(self._pipe, line)

    def _start(self) -> None:
        theirs, ours = os.pipe()
        os.set_blocking(ours, False)
        command = [sys.executable, "-IS", program.__file__]
        env = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        null = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_RDWR, 0)
        actions = [(os.POSIX_SPAWN_DUP2, theirs, 0), null, (os.POSIX_SPAWN_DUP2, 1, 2)]
        try:
            self._process = os.posix_spawn(
                command[0], command, env, file_actions=actions, setsid=True
            )
        except (OSError, NotImplementedError, TypeError, ValueError) as error:
            log.warning("what programs start may outlive a proxy that is killed: %s", error)
            os.close(ours)
            return
        finally:
            os.close(theirs)
        self._pipe, self._started_by = ours, os.getpid()
        atexit.register(self.close)

    def close(self) -> None:
        """Kill what is left and end the guardian."""
        if self._pipe is None or self._started_by != os.getpid():
            return
        os.close(self._pipe)
        self._pipe = None
        end = time.monotonic() + _LAST
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(self._process, os.WNOHANG)[0] == 0 and time.monotonic() < end:
                time.sleep(_STEP)


guardian: Final = ProcessGuardian()
"""The one of this process."""
