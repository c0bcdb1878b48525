"""Files with the raw pages of a backend's lists, before prefixes and filters are applied.

A backend that is read from its file is processed like a connected one, so that a plan without a
network reflects a changed manifest in the same way.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Raw

from mcpproxy.api.defaults import BackendSettings
from mcpproxy.api.v1alpha1.status import BackendStatus
from mcpproxy.proxy.core.errors import ProtocolError, Unreachable
from mcpproxy.proxy.core.exchange import CallContext, ClientIdentity
from mcpproxy.proxy.core.reports import BackendReport
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.protocol.kinds import BY_METHOD
from mcpproxy.proxy.protocol.revisions import is_modern
from mcpproxy.proxy.upstream.connect.negotiation import Connector, TransportName
from mcpproxy.proxy.upstream.transports.session import (
    OnMessage,
    ServerDescription,
    TaskSet,
    UpstreamRequest,
    UpstreamSession,
)

VERSION: Final = 1
"""Version of the files' format."""
NO_METHOD: Final = jsonrpc.encode(
    {"code": jsonrpc.METHOD_NOT_FOUND, "message": "the saved catalog does not contain this list"}
)


@dataclass(slots=True)
class SavedLists:
    """The data about one backend that a plan needs."""

    revision: str
    transport: TransportName
    stateful: bool
    server: Message
    """The result of initialize or server/discover."""
    pages: dict[str, list[Message]] = field(default_factory=dict)
    """Field of list results (tools, ...) → its pages. Unsupported lists are absent."""


class _File(msgspec.Struct):
    version: int
    status: Raw
    server: Raw = msgspec.field(name="greeting")
    lists: dict[str, list[Raw]]


def path_of(directory: Path, namespace: str | None, proxy: str, backend: str) -> Path:
    """Return the path of the file for one backend."""
    return directory / (namespace or "default") / proxy / f"{backend}.json"


def write_saved_lists(
    path: Path, status: BackendReport, server: Message, lists: Mapping[str, list[Message]]
) -> None:
    """Write the file of a backend. Raise OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    status_fields = status.to_manifest()
    content = {"version": VERSION, "status": status_fields, "greeting": server, "lists": lists}
    path.write_bytes(jsonrpc.encode(content) + b"\n")


def read_saved_lists(path: Path) -> SavedLists:
    """Return the saved data of a backend. Raise Unreachable or ProtocolError."""
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_File)
        status = BackendStatus.model_validate_json(bytes(file.status))
        server = jsonrpc.decode_object(file.server)
        pages = {
            kind: [jsonrpc.decode_object(page) for page in raw_pages]
            for kind, raw_pages in file.lists.items()
        }
    except FileNotFoundError:
        raise Unreachable(f"{path} does not exist; create it with --save") from None
    except (OSError, ValueError, msgspec.MsgspecError, jsonrpc.RpcError):
        raise ProtocolError(f"{path} is not a saved catalog; create it again with --save") from None
    if file.version != VERSION or status.protocol_version is None or status.transport is None:
        raise ProtocolError(
            f"{path} was saved by another version of mcpproxy; create it again with --save"
        )
    stateful = status.session == "Stateful"
    return SavedLists(status.protocol_version, status.transport, stateful, server, pages)


class SavedSession:
    """A session with a backend that exists only as a file."""

    alive: Final = True

    def __init__(self, saved: SavedLists) -> None:
        self.server = ServerDescription(saved.revision, saved.server)
        self.stateful = saved.stateful
        self._pages = saved.pages

    async def request(self, outgoing: UpstreamRequest, caller: CallContext) -> Message:
        kind = BY_METHOD.get(outgoing.method)
        pages = self._pages.get(kind.member) if kind else None
        envelope = {"jsonrpc": jsonrpc.VERSION, "id": outgoing.id}
        if not pages:
            return {**envelope, "error": Raw(NO_METHOD)}
        cursor = (outgoing.params or {}).get("cursor")
        after = (n for n, page in enumerate(pages, 1) if page.get("nextCursor") == cursor)
        page = pages[0] if cursor is None else pages[next(after, 0)]
        return {**envelope, "result": jsonrpc.encode_raw(page)}

    async def notify(self, message: Message, client: ClientIdentity | None = None) -> None: ...

    async def listen(
        self,
        session_context: CallContext,
        announced: OnMessage,
        ready: Callable[[], None],
        uris: Sequence[str] = (),
    ) -> None: ...

    async def close(self) -> None: ...


class SavedConnector(Connector):
    """A connector that opens files instead of connections."""

    transport: TransportName | None

    def __init__(self, path: Path, settings: BackendSettings, background: TaskSet) -> None:
        super().__init__()
        self._path = path
        self._pin = settings.protocol

    async def open(self, client: ClientIdentity) -> UpstreamSession:
        saved = read_saved_lists(self._path)
        era = "modern" if is_modern(saved.revision) else "legacy"
        if self._pin not in ("auto", era, saved.revision):
            raise ProtocolError(
                f"saved with revision {saved.revision}, but protocol is {self._pin}; create it"
                " again with --save"
            )
        self.transport = saved.transport
        return SavedSession(saved)
