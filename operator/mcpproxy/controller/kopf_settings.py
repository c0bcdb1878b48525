"""Kopf's settings and its way to the API server."""

from collections.abc import Iterator
from typing import Any, Final

import kopf

from mcpproxy.cluster.kubeconfig import ClusterConfig
from mcpproxy.controller.kopf_watches import selectors

STOP_SECONDS: Final = 20.0
"""After a signal to stop, the process is gone by then. The grace of its pod has to be longer."""


class Backoffs:
    """Pauses between requests of Kopf that fail, without an end and 5 seconds at most.

    Kopf's own grow to 21 seconds, and end the operator after the last one.
    """

    def __iter__(self) -> Iterator[float]:
        yield from (1.0, 1.0, 2.0, 3.0)
        while True:
            yield 5.0


def kopf_settings() -> kopf.OperatorSettings:
    """How Kopf should behave: it watches, and does nothing else."""
    found = kopf.OperatorSettings()
    found.posting.enabled = False
    found.peering.standalone = True
    # Watching namespaces and CRDs would need rights in the whole cluster.
    found.scanning.disabled = True
    found.networking.connect_timeout = 10
    found.networking.request_timeout = 60
    found.networking.error_backoffs = Backoffs()
    found.watching.connect_timeout = 10
    found.watching.server_timeout = 300
    found.watching.chunk_size = 500
    found.process.ultimate_exiting_timeout = STOP_SECONDS
    for resource, selector in selectors().items():
        found.watching.label_selectors[resource] = selector
    return found


def register_login(registry: kopf.OperatorRegistry, access: ClusterConfig) -> None:
    """Let Kopf use the same access as the rest; asked again whenever its token is refused."""

    async def login(**_: Any) -> kopf.ConnectionInfo:
        found = await access.credentials()
        return kopf.ConnectionInfo(
            server=found.server,
            ca_path=found.ca_path,
            insecure=found.insecure,
            scheme=found.scheme,
            token=found.token,
            certificate_path=found.certificate_path,
            private_key_path=found.private_key_path,
            proxy_url=found.proxy_url,
            username=found.username,
            password=found.password,
        )

    kopf.on.login(id="login", registry=registry)(login)
