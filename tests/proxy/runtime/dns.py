"""The names of a cluster, all of which are this machine."""

import socket
from typing import Any

import pytest


class Dns:
    """Names of the system's resolver, and additional ones."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.known: set[str] = set()
        as_it_was = socket.getaddrinfo

        def look(host: Any, *args: Any, **kwargs: Any) -> Any:
            if host in self.known:
                return as_it_was("127.0.0.1", *args, **kwargs)
            if isinstance(host, str) and host.endswith(".svc"):
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return as_it_was(host, *args, **kwargs)

        monkeypatch.setattr(socket, "getaddrinfo", look)
