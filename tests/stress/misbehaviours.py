"""The misbehaviours of backends, one table for each place where a backend can misbehave."""

import copy
import gzip
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tests.stress.misbehaving_texts import (
    ALL,
    BLOCKS,
    JSON,
    OLD,
    PRELUDES,
    STDIO,
    STREAM,
    STREAMS,
    TEXTS,
    dump,
)

LEGACY, MODERN = "legacy", "modern"
ERAS: Final = (LEGACY, MODERN)
REVISIONS: Final = {LEGACY: "2025-11-25", MODERN: "2026-07-28"}
OPENING, LISTS, CALLS = "opening", "lists", "calls"
PLACES: Final = (OPENING, LISTS, CALLS)
_OPENING: Final = ("initialize", "server/discover")

Message = dict[str, Any]
Answer = Callable[[Message, Message], Message]


@dataclass(frozen=True)
class Http:
    """An HTTP response, and the fate of its connection."""

    status: int = 200
    kind: str = "application/json"
    body: bytes = b""
    fields: tuple[str, ...] = ()
    end: str = ""
    """`close`: the connection ends behind the response; `drop`: before it; `stall`: no response."""


@dataclass(frozen=True)
class Misbehaviour:
    """The differences between a backend and a well-behaved one."""

    name: str
    transports: tuple[str, ...] = ALL
    eras: tuple[str, ...] = ERAS
    places: tuple[str, ...] = PLACES
    answer: Answer | None = None
    """Changes a response, of the request given first."""
    texts: Callable[[bytes], list[bytes]] | None = None
    """Encodes one message; each item is sent as a message."""
    block: Callable[[bytes], bytes] | None = None
    """Frames one message as events."""
    http: Callable[[Http], Http] | None = None
    """Changes the HTTP response to a request."""
    fixed: dict[str, Http | Message] = field(default_factory=dict)
    """Responses by method (`GET` for its own): of HTTP, or the error of a JSON-RPC response."""
    prelude: bytes = b""
    """Sent before all else: on a stream of HTTP+SSE, or by a program."""
    session: str = "kept"
    """`kept`, `none`, `strict` (none, but `initialized` is wanted), `cookie`, or `lost-STATUS`."""
    life: str = ""
    """Of a program: `slow` to start, `once` (ends behind a call), `probe` (on one), or `silent`."""


def place(method: str) -> str:
    """The place that a request belongs to."""
    if method in _OPENING:
        return OPENING
    return LISTS if method.endswith("/list") else CALLS


# A well-behaved backend


def _object(name: str) -> Message:
    return {"name": name, "inputSchema": {"type": "object"}}


_LISTS: Final[dict[str, tuple[str, list[Message]]]] = {
    "tools/list": ("tools", [_object("echo"), _object("fail")]),
    "prompts/list": ("prompts", [{"name": "greet"}]),
    "resources/list": ("resources", [{"uri": "x://one", "name": "one"}]),
    "resources/templates/list": (
        "resourceTemplates",
        [{"uriTemplate": "x://some/{thing}", "name": "some"}],
    ),
}
_CAPABILITIES: Final = {"tools": {"listChanged": True}, "prompts": {}, "resources": {}}


def _opened(era: str, params: Message) -> Message:
    opened: Message = {"capabilities": dict(_CAPABILITIES)}
    info = {"name": "odd", "version": "1"}
    if era == MODERN:
        return {**opened, "supportedVersions": [REVISIONS[MODERN]], "serverInfo": info}
    return {**opened, "protocolVersion": params["protocolVersion"], "serverInfo": info}


def _result(method: str, params: Message) -> Message | None:
    if method in _LISTS:
        member, items = _LISTS[method]
        return {member: items}
    if method == "tools/call":
        text = params.get("arguments", {}).get("text", "")
        return {"content": [{"type": "text", "text": text}], "structuredContent": {"n": 1}}
    if method == "prompts/get":
        content = {"type": "text", "text": "hello"}
        return {"messages": [{"role": "user", "content": content}]}
    if method == "resources/read":
        return {"contents": [{"uri": params["uri"], "text": "one"}]}
    return {} if method == "ping" else None


def well_behaved(era: str, request: Message) -> Message:
    """The response of a well-behaved backend of this era."""
    method, params = request["method"], request.get("params") or {}
    response: Message = {"jsonrpc": "2.0", "id": request["id"]}
    own = "server/discover" if era == MODERN else "initialize"
    result = _opened(era, params) if method == own else _result(method, params)
    if method == "tools/call" and params["name"] == "fail":
        return {**response, "error": {"code": -32099, "message": "the disk is full"}}
    if result is None:
        return {**response, "error": {"code": -32601, "message": f"no {method}"}}
    if era == MODERN:
        result["resultType"] = "complete"
        if place(method) != CALLS or method == "resources/read":
            result |= {"ttlMs": 0, "cacheScope": "private"}
    return {**response, "result": result}


def respond(misbehaviour: Misbehaviour, era: str, request: Message) -> list[bytes]:
    """The messages that a misbehaving backend sends in response to a request."""
    method = request["method"]
    response = copy.deepcopy(well_behaved(era, request))
    error = misbehaviour.fixed.get(method)
    if isinstance(error, dict):
        response.pop("result", None)
        response["error"] = error
    if place(method) in misbehaviour.places:
        if misbehaviour.answer:
            response = misbehaviour.answer(request, response)
        if misbehaviour.texts:
            return misbehaviour.texts(dump(response))
    return [dump(response)]


def _in(method: str, **members: Any) -> Answer:
    """An answer that replaces members of the result of one method."""

    def answer(request: Message, response: Message) -> Message:
        if request["method"] == method and "result" in response:
            response["result"] = {**response["result"], **members}
        return response

    return answer


def _whole(method: str, **members: Any) -> Answer:
    """An answer that replaces members of the response to one method."""

    def answer(request: Message, response: Message) -> Message:
        if request["method"] == method:
            response = {"jsonrpc": "2.0", "id": response["id"], **members}
        return response

    return answer


def _opening(**members: Any) -> Answer:
    def answer(request: Message, response: Message) -> Message:
        if place(request["method"]) == OPENING and "result" in response:
            response["result"].update(members)
        return response

    return answer


def _pages(*cursors: Any) -> Answer:
    """An answer that pages tools: the cursor behind each page; the last page refuses others."""

    def answer(request: Message, response: Message) -> Message:
        if request["method"] != "tools/list":
            return response
        cursor = (request.get("params") or {}).get("cursor")
        behind = cursors[1] if cursor is not None and len(cursors) > 1 else cursors[0]
        if cursor == "" and len(cursors) == 1:
            error = {"code": -32602, "message": "no such cursor"}
            return {"jsonrpc": "2.0", "id": response["id"], "error": error}
        response["result"]["nextCursor"] = behind
        return response

    return answer


def _error(code: int) -> Message:
    return {"code": code, "message": f"fails with {code}"}


def _twice(request: Message, response: Message) -> Message:
    if request["method"] == "tools/list":
        response["result"]["tools"] *= 2
    return response


def _error_id(**members: Any) -> Answer:
    """An answer that is an error, whose id is replaced or missing."""

    def answer(request: Message, response: Message) -> Message:
        if request["method"] != "tools/call":
            return response
        return {"jsonrpc": "2.0", **members, "error": {"code": -32098, "message": "no"}}

    return answer


_LISTED: Final = (
    ("tools", -32603),
    ("prompts", -32602),
    ("resources", -32000),
    ("resources/templates", -32603),
    ("resources/templates", -32602),
)
_CONTENT: Final = (
    *(
        Misbehaviour(f"{kind}/list fails with {code}", fixed={f"{kind}/list": _error(code)})
        for kind, code in _LISTED
    ),
    *(
        Misbehaviour(f"{method} lists null", answer=_in(method, **{member: None}))
        for method, (member, _) in _LISTS.items()
    ),
    *(
        Misbehaviour(f"{method} is null", answer=_whole(method, result=None))
        for method in ("resources/templates/list", "tools/call")
    ),
    Misbehaviour("cursor null", answer=_pages(None)),
    Misbehaviour("cursor empty, refused", answer=_pages("")),
    Misbehaviour("cursor empty, listed again", answer=_pages("", None)),
    Misbehaviour("cursor that does not advance", answer=_pages("a", "a")),
    Misbehaviour("two pages that are the same", answer=_pages("a", None)),
    Misbehaviour("tools listed twice", answer=_twice),
    Misbehaviour("capabilities undeclared", answer=_opening(capabilities={})),
    Misbehaviour("capabilities null", answer=_opening(capabilities=None)),
    *(
        Misbehaviour(
            f"revision {revision}", eras=(LEGACY,), answer=_opening(protocolVersion=revision)
        )
        for revision in ("2024-11-05", "1999-01-01")
    ),
    Misbehaviour("name of the server missing", answer=_opening(serverInfo=None)),
    Misbehaviour("error without id", answer=_error_id()),
    Misbehaviour("error with id null", answer=_error_id(id=None)),
    Misbehaviour("ping unknown", fixed={"ping": _error(-32601)}),
)  # fmt: skip


def _coded(coding: str) -> Callable[[Http], Http]:
    def http(response: Http) -> Http:
        code = gzip.compress if coding.endswith("gzip") else zlib.compress
        fields = (*response.fields, f"Content-Encoding: {coding}")
        return replace(response, body=code(response.body), fields=fields)

    return http


def _ended(end: str) -> Callable[[Http], Http]:
    return lambda response: replace(response, end=end)


def _closed(response: Http) -> Http:
    return replace(response, fields=(*response.fields, "Connection: close"), end="close")


def _failing(response: Http) -> Http:
    return replace(response, status=500) if b'"error"' in response.body else response


_HTTP: Final[dict[str, tuple[tuple[str, ...], Callable[[Http], Http]]]] = {
    "gzip": ((JSON, STREAM), _coded("gzip")),
    "x-gzip": ((JSON, STREAM), _coded("x-gzip")),
    "deflate": ((JSON, STREAM), _coded("deflate")),
    "close announced": ((JSON, STREAM), _closed),
    "close unannounced": ((JSON, STREAM), _ended("close")),
    "errors with 500": ((JSON,), _failing),
    "type with charset": ((JSON, STREAM), lambda r: replace(r, kind=r.kind + ";charset=UTF-8")),
    "type in capitals": ((JSON, STREAM), lambda r: replace(r, kind=r.kind.upper())),
    "status 201": ((JSON, STREAM), lambda r: replace(r, status=201)),
}  # fmt: skip


def _plain(status: int, text: str = "no") -> Http:
    return Http(status, "text/plain", text.encode())


_STATUSES: Final = (400, 401, 403, 404, 405, 406, 422, 429, 500, 501)
_FOREIGN: Final = {"jsonrpc": "2.0", "id": "server-error", "error": _error(-32600)}
_REFUSALS: Final[dict[str, Http]] = {
    **{f"{status}": _plain(status) for status in _STATUSES},
    "302": Http(302, "text/plain", b"", ("Location: /login",)),
    "empty 200": Http(200, "application/json"),
    "text": _plain(200, "hello"),
    "202": Http(202, "text/plain"),
    "400 with id server-error": Http(400, body=dump(_FOREIGN)),
    "drop": Http(end="drop"),
    "stall": Http(end="stall"),
}  # fmt: skip
_PROBES: Final = {
    **_REFUSALS,
    "stalled stream": Http(200, "text/event-stream", end="stall"),
}
_GETS: Final = {
    **_REFUSALS,
    "stream that ends": Http(200, "text/event-stream", b": hello\n\n", end="close"),
    "stream that breaks": Http(200, "text/event-stream", b"data: {", end="close"),
    "foreign events": Http(200, "text/event-stream", b"event: ping\ndata: 1\n\n" * 3, end="stall"),
    "no message": Http(200, "text/event-stream", b'data: {"a":1}\n\n', end="close"),
    "announcements": Http(
        200,
        "text/event-stream",
        b'data: {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}\n\n' * 50,
        end="stall",
    ),
}
_INITIALIZED: Final = {
    "200 with an object": Http(body=b"{}"),
    "200 with id null": Http(body=b'{"jsonrpc":"2.0","id":null,"result":{}}'),
    "204": Http(204),
    "202 with a body": Http(202, "text/plain", b"Accepted"),
    "400": _plain(400),
    "open stream": Http(200, "text/event-stream", b": hello\n\n", end="stall"),
}
_SESSIONS: Final = ("none", "strict", "cookie", *(f"lost-{s}" for s in (404, 400, 401, 410, 200)))
_LIVES: Final = ("slow", "once", "probe", "silent")


def _spread(misbehaviour: Misbehaviour) -> list[Misbehaviour]:
    """One misbehaviour when a session begins, and one in what follows."""
    return [
        replace(misbehaviour, name=f"{misbehaviour.name} when it opens", places=(OPENING,)),
        replace(misbehaviour, name=f"{misbehaviour.name} once open", places=(LISTS, CALLS)),
    ]


def table() -> dict[str, Misbehaviour]:
    """Return all misbehaviours by name, and `none` for a well-behaved backend."""
    of_http = (JSON, STREAM)
    everywhere = [
        *(Misbehaviour(n, transports, texts=texts) for n, (transports, texts) in TEXTS.items()),
        *(Misbehaviour(f"events: {n}", STREAMS, block=block) for n, block in BLOCKS.items()),
        *(Misbehaviour(f"HTTP: {n}", t, http=http) for n, (t, http) in _HTTP.items()),
    ]
    rows = [
        Misbehaviour("none"),
        *_CONTENT,
        *(result for item in everywhere for result in _spread(item)),
        *(
            Misbehaviour(f"probe: {name}", of_http, (LEGACY,), fixed={"server/discover": answer})
            for name, answer in _PROBES.items()
        ),
        *(
            Misbehaviour(f"probe: {code}", ALL, (LEGACY,), fixed={"server/discover": _error(code)})
            for code in (-32601, -32600, -32602, -32000, -32700)
        ),
        *(
            Misbehaviour(f"GET: {name}", (JSON,), (LEGACY,), fixed={"GET": answer})
            for name, answer in _GETS.items()
        ),
        *(
            Misbehaviour(f"listen: {name}", (JSON,), (MODERN,), fixed={"subscriptions/listen": get})
            for name, get in _GETS.items()
        ),
        *(
            Misbehaviour(
                f"initialized: {name}", (JSON,), (LEGACY,),
                fixed={"notifications/initialized": answer},
            )
            for name, answer in _INITIALIZED.items()
        ),
        *(
            Misbehaviour(f"endpoint behind {name}", (OLD,), (LEGACY,), prelude=prelude)
            for name, prelude in PRELUDES.items()
        ),
        Misbehaviour("output behind BOM", (STDIO,), prelude=b"\xef\xbb\xbf"),
        Misbehaviour("output behind text", (STDIO,), prelude=b"hello\n"),
        *(
            Misbehaviour(f"session: {name}", (JSON, STREAM), (LEGACY,), session=name)
            for name in _SESSIONS
        ),
        *(Misbehaviour(f"program: {name}", (STDIO,), life=name) for name in _LIVES),
    ]  # fmt: skip
    return {row.name: row for row in rows}
