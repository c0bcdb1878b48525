"""A proxy of a cluster, reached with the user's own kubectl: the runtime needs no client of it."""

import asyncio
import re
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from mcpproxy.api import constants
from mcpproxy.api.manifest import ManifestError
from mcpproxy.proxy.upstream.processes.child_processes import before_exec

_KIND: Final = "mcpproxy/"
PORT: Final = "http"
"""Of a proxy's Service."""
_FORWARDING: Final = re.compile(rb"Forwarding from (127\.0\.0\.1:\d+|\[::1\]:\d+) ")


def proxy_of(source: str) -> str | None:
    """The name of the MCPProxy that `mcpproxy/NAME` means; None where a file is meant."""
    name = source.removeprefix(_KIND)
    return name if name != source and constants.is_dns_label(name) else None


@asynccontextmanager
async def port_forward(proxy: str, namespace: str | None, deadline: float) -> AsyncIterator[str]:
    """The URL, on this machine, of an MCPProxy in the cluster of kubectl's current context.

    Without a namespace it is that of the context. Raises ManifestError that says why there is none.
    """
    where = ("--namespace", namespace) if namespace else ()
    command = ("kubectl", *where, "port-forward", f"service/{proxy}", f":{PORT}")
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, preexec_fn=before_exec()
        )
    except OSError as error:
        raise ManifestError(
            f"--against {_KIND}{proxy}: kubectl can't be run: {error.strerror}"
        ) from error
    try:
        yield f"http://{await _address(process, proxy, deadline)}/mcp"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def _address(process: Process, proxy: str, deadline: float) -> str:
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(deadline):
            found = _FORWARDING.match(await process.stdout.readline())
            if found is not None:
                return found[1].decode()
            said = (await process.stderr.read()).decode(errors="replace").strip()
    except TimeoutError:
        said = f"it forwarded nothing within the {deadline:g} s of --timeout"
    raise ManifestError(f"--against {_KIND}{proxy}: kubectl port-forward: {said or 'it ended'}")
