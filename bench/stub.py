"""A stub MCP backend on asyncio protocols and httptools, without an MCP library.

    python -m bench.stub --port 9100 [--eras both] [--sessions] [--events] [--tools 10]

It is to cost as little as possible, so that what is measured is what stands before it.
"""

import argparse
import asyncio
import itertools
from dataclasses import dataclass
from typing import Final, Literal, cast

import httptools
import msgspec

from bench import messages

Eras = Literal["both", "legacy", "modern"]
_JSON: Final = b"application/json"
_EVENTS: Final = b"text/event-stream"
_STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n%s\r\n"
)
_INFO: Final = {"name": "stub", "version": "1"}
_CAPABILITIES: Final = {"tools": {"listChanged": True}}
_MODERN_MEMBERS: Final = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Behavior of the stub backend."""

    eras: Eras = "legacy"
    sessions: bool = False
    """Legacy clients are given a session and have to name it."""
    events: bool = False
    """Answers are event streams instead of JSON."""
    tools: int = 10
    protected: bool = False
    """Requests without a bearer token are refused."""

    def arguments(self) -> list[str]:
        """The same on the command line."""
        names = ("sessions", "events", "protected")
        flags = [f"--{name}" for name in names if getattr(self, name)]
        return ["--eras", self.eras, "--tools", str(self.tools), *flags]


class Meta(msgspec.Struct):
    """Members of `_meta` that the stub reads."""

    token: msgspec.Raw = msgspec.field(name="progressToken", default=msgspec.Raw())
    version: str | None = msgspec.field(
        name="io.modelcontextprotocol/protocolVersion", default=None
    )


class Arguments(msgspec.Struct):
    """The arguments of every tool."""

    text: str = ""


class Params(msgspec.Struct):
    """Members of `params` that the stub reads."""

    name: str = ""
    arguments: Arguments = msgspec.field(default_factory=Arguments)
    meta: Meta = msgspec.field(name="_meta", default_factory=Meta)


class Request(msgspec.Struct):
    """A JSON-RPC request, or a notification (without an id)."""

    method: str = ""
    id: msgspec.Raw = msgspec.Raw()
    params: Params = msgspec.field(default_factory=Params)


class Stub:
    """State that the connections of one backend share."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.sessions: dict[bytes, list[asyncio.Transport]] = {}
        """The GET streams of each session."""
        self._numbers = itertools.count(1)
        listed = {"tools": [_tool(number) for number in range(behaviour.tools)]}
        self._lists = {
            False: msgspec.json.encode(listed),
            True: msgspec.json.encode({**listed, **_MODERN_MEMBERS}),
        }

    def begin_session(self) -> bytes:
        """The id of a new session."""
        session = b"stub-%d" % next(self._numbers)
        self.sessions[session] = []
        return session

    def end_session(self, session: bytes) -> None:
        """Its streams end with it, as those of the usual servers do."""
        for stream in self.sessions.pop(session, []):
            stream.write(b"0\r\n\r\n")

    def speaks(self, request: Request) -> bool:
        """Return True if the request belongs to an era of this backend."""
        era = "modern" if request.params.meta.version else "legacy"
        return self.behaviour.eras in ("both", era)

    def result(self, request: Request) -> bytes | None:
        """The result as JSON; None for a method there is not."""
        modern = request.params.meta.version is not None
        if request.method == "tools/call":
            return _called(request.params, modern)
        if request.method == "tools/list":
            return self._lists[modern]
        if request.method == "initialize":
            about = {"capabilities": _CAPABILITIES, "serverInfo": _INFO}
            return msgspec.json.encode({"protocolVersion": messages.LEGACY, **about})
        if request.method == "server/discover" and modern:
            about = {"capabilities": _CAPABILITIES, "serverInfo": _INFO, **_MODERN_MEMBERS}
            return msgspec.json.encode({"supportedVersions": [messages.MODERN], **about})
        return b"{}" if request.method == "ping" else None


class Connection(asyncio.Protocol):
    """One connection; requests are answered in their order."""

    _decoder = msgspec.json.Decoder(Request)

    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""
        self._session: bytes | None = None
        self._protected = stub.behaviour.protected
        self._authorized = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_message_begin(self) -> None:
        self._body, self._session, self._authorized = b"", None, False

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) == 14 and name.lower() == b"mcp-session-id":
            self._session = value
        elif self._protected and name.lower() == b"authorization":
            self._authorized = value.startswith(b"Bearer ")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        method = self._parser.get_method()
        if self._protected and not self._authorized:
            self._send(b"401 Unauthorized")
        elif method == b"POST":
            self._post()
        elif self._stub.behaviour.eras == "modern":
            self._send(b"405 Method Not Allowed")
        elif method == b"GET":
            self._transport.write(_STREAM_HEAD % b"" + b"5\r\n: hi\n\r\n")
            if self._session in self._stub.sessions:
                self._stub.sessions[self._session].append(self._transport)
        else:
            self._stub.end_session(self._session or b"")
            self._send(b"200 OK")

    def _post(self) -> None:
        try:
            request = self._decoder.decode(self._body)
        except msgspec.MsgspecError:
            self._send(b"400 Bad Request")
            return
        if not self._stub.speaks(request):
            self._refuse(request, b"400 Bad Request", -32022, "another era is spoken here")
        elif self._is_strange(request):
            missing = self._session is None
            status = b"400 Bad Request" if missing else b"404 Not Found"
            self._refuse(request, status, -32001, "no such session")
        elif not request.id:
            self._send(b"202 Accepted")
        elif request.params.name == "progress":
            self._transport.write(_STREAM_HEAD % b"")
            self._progress(request, 1)
        else:
            self._answer(request)

    def _is_strange(self, request: Request) -> bool:
        """Return True if a session is required, and the request has no valid one."""
        outside = request.method == "initialize" or request.params.meta.version is not None
        kept = self._stub.behaviour.sessions
        return kept and not outside and self._session not in self._stub.sessions

    def _answer(self, request: Request) -> None:
        extra = b""
        if request.method == "initialize" and self._stub.behaviour.sessions:
            extra = b"mcp-session-id: %s\r\n" % self._stub.begin_session()
        result = self._stub.result(request)
        if result is None:
            status = b"404 Not Found" if request.params.meta.version else b"200 OK"
            self._refuse(request, status, -32601, "Method not found")
            return
        body = b'{"jsonrpc":"2.0","id":%s,"result":%s}' % (bytes(request.id), result)
        if self._stub.behaviour.events:
            self._transport.write(_STREAM_HEAD % extra + _event(body) + b"0\r\n\r\n")
        else:
            self._send(b"200 OK", body, extra)

    def _progress(self, request: Request, step: int) -> None:
        """One notification in each turn of the loop, so that each is written by itself."""
        if self._transport.is_closing():
            return
        if step > messages.NOTIFICATIONS:
            result = _called(request.params, request.params.meta.version is not None)
            body = b'{"jsonrpc":"2.0","id":%s,"result":%s}' % (bytes(request.id), result)
            self._transport.write(_event(body) + b"0\r\n\r\n")
            return
        notification = (
            b'{"jsonrpc":"2.0","method":"notifications/progress","params":'
            b'{"progressToken":%s,"progress":%d,"total":%d}}'
        ) % (bytes(request.params.meta.token) or b"0", step, messages.NOTIFICATIONS)
        self._transport.write(_event(notification))
        asyncio.get_running_loop().call_soon(self._progress, request, step + 1)

    def _refuse(self, request: Request, status: bytes, code: int, message: str) -> None:
        error: dict[str, object] = {"code": code, "message": message}
        if code == -32022:
            error["data"] = {"supported": [messages.MODERN]}
            if self._stub.behaviour.eras == "legacy":
                error = {"code": -32600, "message": message}
        known = request.id if request.id else None
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": known, "error": error})
        self._send(status, body)

    def _send(self, status: bytes, body: bytes = b"", extra: bytes = b"") -> None:
        head = b"HTTP/1.1 %s\r\ncontent-type: %s\r\ncontent-length: %d\r\n%s\r\n"
        self._transport.write(head % (status, _JSON, len(body), extra) + body)


def _event(body: bytes) -> bytes:
    """One event as a chunk."""
    event = b"event: message\ndata: %s\n\n" % body
    return b"%x\r\n%s\r\n" % (len(event), event)


def _called(params: Params, modern: bool) -> bytes:
    said = msgspec.json.encode(params.arguments.text)
    if params.name == "large":
        said = said[:-1] + messages.PADDING + b'"'
    tail = b',"resultType":"complete"' if modern else b""
    return b'{"content":[{"type":"text","text":%s}],"isError":false%s}' % (said, tail)


def _tool(number: int) -> dict[str, object]:
    name = messages.TOOLS[number] if number < len(messages.TOOLS) else f"tool_{number:04d}"
    said = {"type": "string", "description": "What the tool is to say"}
    return {
        "name": name,
        "description": f"The tool {name}, with a description of the length that is usual.",
        "inputSchema": {"type": "object", "properties": {"text": said}, "required": ["text"]},
    }


async def serve(behaviour: Behaviour, port: int = 0) -> asyncio.Server:
    """A backend that listens on 127.0.0.1; port 0 takes a free one."""
    stub = Stub(behaviour)
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: Connection(stub), "127.0.0.1", port, backlog=4096)


async def _main() -> None:
    parser = argparse.ArgumentParser(description="a stub MCP backend")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--eras", choices=("both", "legacy", "modern"), default="legacy")
    parser.add_argument("--sessions", action="store_true")
    parser.add_argument("--events", action="store_true")
    parser.add_argument("--protected", action="store_true")
    parser.add_argument("--tools", type=int, default=10)
    args = parser.parse_args()
    behaviour = Behaviour(args.eras, args.sessions, args.events, args.tools, args.protected)
    await (await serve(behaviour, args.port)).serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_main())
