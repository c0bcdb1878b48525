"""Access to a proxy in a cluster with the user's own kubectl, so that no API client is needed."""

import asyncio
import re
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from mcpproxy.api import constants
from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.proxy.upstream.processes.child_processes import before_exec

_KIND: Final = "mcpproxy/"
PORT: Final = "http"
"""Name of the port of a proxy's Service."""
_FORWARDING: Final = re.compile(rb"Forwarding from (127\.0\.0\.1:\d+|\[::1\]:\d+) ")


def proxy_of(source: str) -> str | None:
    """Return the name of the MCPProxy in `mcpproxy/NAME`, or None for anything else, such as a
    file."""
    name = source.removeprefix(_KIND)
    return name if name != source and constants.is_dns_label(name) else None


@asynccontextmanager
async def port_forward(
    proxy: str, namespace: str | None, deadline: float, context: str | None = None
) -> AsyncIterator[str]:
    """Yield a local URL of an MCPProxy in the cluster of kubectl's current context.

    Without a namespace, that of the context applies. Raise ManifestError with the reason if kubectl
    cannot forward the port.
    """
    namespace_options = ("--namespace", namespace) if namespace else ()
    context_options = ("--context", context) if context else ()
    options = (*namespace_options, *context_options)
    command = ("kubectl", *options, "port-forward", f"service/{proxy}", f":{PORT}")
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, preexec_fn=before_exec()
        )
    except OSError as error:
        raise ManifestError(f"{_KIND}{proxy}: cannot run kubectl: {error.strerror}") from error
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
            match = _FORWARDING.match(await process.stdout.readline())
            if match is not None:
                return match[1].decode()
            lines = (await process.stderr.read()).decode(errors="replace").strip().splitlines()
            # kubectl repeats what it has tried before the line with the reason.
            output = lines[-1] if lines else ""
    except TimeoutError:
        output = f"no port was forwarded within the {deadline:g} s of --timeout"
    raise ManifestError(
        f"{_KIND}{proxy}: kubectl port-forward: {output or 'exited without output'}"
    )
