"""Settings of Kopf, and its connection to the API server."""

from collections.abc import Iterator
from typing import Any, Final

import kopf

from mcpproxy.cluster.kubeconfig import ClusterConfig
from mcpproxy.controller.kopf_watches import selectors

STOP_SECONDS: Final = 20.0
"""Seconds within which the process ends after a signal. The grace period of its pod is longer."""


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
    """Let Kopf use the credentials of the other clients; rejected ones are fetched again."""

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
