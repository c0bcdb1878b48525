"""Four servers of other makers behind one proxy, and a web page, for all tests here."""

import http.server
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from scripts import npm
from scripts.conformance_servers import manifest, proxy, running
from scripts.demo_local import free_ports
from tests.peers.world import EVERYTHING, FILESYSTEM, NODE, Server

PAGE = "<title>Shelf</title><h1>Books</h1><button onclick='this.textContent = 1'>Count</button>"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Write nothing."""


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a page on this machine."""
    directory = tmp_path_factory.mktemp("page")
    (directory / "index.html").write_text(PAGE, encoding="utf-8")
    handler = partial(_Quiet, directory=os.fspath(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory that the filesystem server serves."""
    path = tmp_path_factory.mktemp("files").resolve()
    (path / "hello.txt").write_text("hello, wörld\n", encoding="utf-8")
    (path / "notes").mkdir()
    return path


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[dict[str, Server]]:
    """The servers themselves, by the names of their backends."""
    npm.install()
    logs = tmp_path_factory.mktemp("servers")
    web, stream = free_ports(2)
    kinds = (("web", web, "streamableHttp"), ("stream", stream, "sse"))
    with ExitStack() as stack:
        for name, port, kind in kinds:
            command = [NODE, EVERYTHING, kind]
            stack.enter_context(running(command, logs / f"{name}.log", port, PORT=str(port)))
        yield {
            "web": Server("http", f"http://127.0.0.1:{web}/mcp"),
            "stream": Server("sse", f"http://127.0.0.1:{stream}/sse"),
            "program": Server("stdio", f'["{NODE}", "{EVERYTHING}", "stdio"]'),
            "files": Server("stdio", f'["{NODE}", "{FILESYSTEM}", "{folder}"]'),
        }


@pytest.fixture(scope="session")
def proxied(
    tmp_path_factory: pytest.TempPathFactory, servers: dict[str, Server], folder: Path
) -> Iterator[Server]:
    """The proxy in front of them."""
    backends: list[dict[str, Any]] = [
        {"name": "web", "url": servers["web"].target},
        {"name": "stream", "url": servers["stream"].target},
        {"name": "program", "stdio": {"command": NODE, "args": [EVERYTHING, "stdio"]}},
        {"name": "files", "stdio": {"command": NODE, "args": [FILESYSTEM, str(folder)]}},
    ]
    logs = tmp_path_factory.mktemp("proxy")
    with proxy(manifest(backends, logs), logs) as url:
        yield Server("http", url)
