"""Access to a proxy in a cluster with the user's own kubectl, so that no API client is needed."""

import asyncio
import json
import re
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from mcpproxy.api import constants
from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.proxy.upstream.processes.child_processes import before_exec

_KIND: Final = "mcpproxy/"
_PLURAL: Final = "mcpproxies.mcpproxy.dev"
PORT: Final = "http"
"""Name of the port of a proxy's Service."""
_DISCARDED: Final = 65_536
_FORWARDING: Final = re.compile(rb"Forwarding from (127\.0\.0\.1:\d+|\[::1\]:\d+) ")


def proxy_of(source: str) -> str | None:
    """Return the name of the MCPProxy in `mcpproxy/NAME`, or None for anything else, such as a
    file."""
    name = source.removeprefix(_KIND)
    return name if name != source and constants.is_dns_label(name) else None


@dataclass(frozen=True, slots=True)
class Forwarding:
    """A local port that kubectl forwards to a pod."""

    address: str
    """`host:port` of the local port."""
    process: Process

    async def wait_for_end(self) -> None:
        """Return when kubectl ends, for example because the pod is gone."""
        assert self.process.stdout is not None
        # kubectl writes a line for each connection, and would wait for its reader.
        while await self.process.stdout.read(_DISCARDED):
            pass


@asynccontextmanager
async def forward(
    resource: str,
    port: str,
    shown: str,
    namespace: str | None,
    deadline: float,
    context: str | None = None,
) -> AsyncIterator[Forwarding]:
    """Yield a local port for the port of this name of `resource`, such as `service/NAME`.

    `shown` is the name of the target in errors. Without a context, kubectl's current one applies,
    and without a namespace, that of the context. Raise ManifestError with the reason if kubectl
    cannot forward the port.
    """
    namespace_options = ("--namespace", namespace) if namespace else ()
    context_options = ("--context", context) if context else ()
    options = (*namespace_options, *context_options)
    command = ("kubectl", *options, "port-forward", resource, f":{port}")
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, preexec_fn=before_exec()
        )
    except OSError as error:
        raise ManifestError(f"{shown}: cannot run kubectl: {error.strerror}") from error
    try:
        yield Forwarding(await _address(process, shown, deadline), process)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


@asynccontextmanager
async def port_forward(
    proxy: str, namespace: str | None, deadline: float, context: str | None = None
) -> AsyncIterator[str]:
    """Yield a local URL of an MCPProxy in the cluster of kubectl's context.

    Raise ManifestError as `forward` does.
    """
    shown, service = f"{_KIND}{proxy}", f"service/{proxy}"
    async with forward(service, PORT, shown, namespace, deadline, context) as forwarding:
        yield f"http://{forwarding.address}/mcp"


async def read_spec(proxy: str, namespace: str | None, deadline: float) -> dict[str, Any] | None:
    """Return the spec of an MCPProxy in the cluster of kubectl's context; None if this user cannot
    read it."""
    namespace_options = ("--namespace", namespace) if namespace else ()
    command = ("kubectl", *namespace_options, "get", f"{_PLURAL}/{proxy}", "--output", "json")
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, preexec_fn=before_exec()
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(deadline):
            output, _ = await process.communicate()
        content = json.loads(output)
    except (TimeoutError, ValueError):
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    spec = content.get("spec") if isinstance(content, dict) else None
    return spec if isinstance(spec, dict) else None


async def _address(process: Process, shown: str, deadline: float) -> str:
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
    raise ManifestError(f"{shown}: kubectl port-forward: {output or 'exited without output'}")
