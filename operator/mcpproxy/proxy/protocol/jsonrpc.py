"""JSON-RPC envelopes. A message is read one level deep; every value stays the bytes it was.

`Message` maps the members of one JSON object to their raw bytes, in their order, unknown ones
included, so that what we do not rewrite leaves exactly as it came.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec
from msgspec import Raw

from mcpproxy.limits.http import ENVELOPE_MEMBERS
from mcpproxy.proxy.protocol import shapes, tolerance
from mcpproxy.proxy.protocol.sizes import LEAST, exceeds

Message = dict[str, Raw]

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
UNAVAILABLE: Final = -32000
TIMED_OUT: Final = -32001
LEGACY_NOT_FOUND: Final = -32002
HEADER_MISMATCH: Final = -32020
MISSING_CAPABILITY: Final = -32021
UNSUPPORTED_VERSION: Final = -32022
REQUEST_CANCELLED: Final = -32800
"""As servers of the SDKs answer a request that its client has cancelled."""

VERSION: Final = Raw(b'"2.0"')
NULL: Final = Raw(b"null")
EMPTY: Final = Raw(b"{}")
MAX_ID_DIGITS: Final = 400
"""Digits of a number that is still looked at as an id."""
_MOST: Final = ENVELOPE_MEMBERS.value
_FEW: Final = LEAST * _MOST
"""Bytes of a text that can't have more members than that."""
_UNREAD: Final = (b"null", b'"server-error"')
_NUMBER_BEGINS: Final = tuple(b"%c" % c for c in b"-0123456789")


class RequestEnvelope(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A request with the members that nearly all have, and no others."""

    jsonrpc: Literal["2.0"]
    id: Raw
    method: str
    params: Message | None = None


class _Heavy(msgspec.Struct):
    """Members of params that may be of any size; the others are passed over."""

    arguments: Raw = Raw(b"")
    meta: Raw = msgspec.field(default=Raw(b""), name="_meta")


class _Outline(msgspec.Struct):
    params: _Heavy = msgspec.field(default_factory=_Heavy)


class ResultEnvelope(msgspec.Struct, forbid_unknown_fields=True):
    """A response with the members that nearly all have, and no others."""

    jsonrpc: Literal["2.0"]
    id: Raw
    result: Raw


class _Error(msgspec.Struct):
    """The members of an error, of which only the code is needed."""

    code: int
    message: Raw = Raw(b'""')
    data: Raw = Raw(b"")


# Bound once: these are called for every message.
_object: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_call: Final = msgspec.json.Decoder(RequestEnvelope).decode
_outline: Final = msgspec.json.Decoder(_Outline).decode
_success: Final = msgspec.json.Decoder(ResultEnvelope).decode
_error: Final = msgspec.json.Decoder(_Error).decode
_array = msgspec.json.Decoder(list[Raw])
_string = msgspec.json.Decoder(str)
_any = msgspec.json.Decoder()
# Numbers that no machine type holds are JSON, too.
_exact: Final = msgspec.json.Decoder(float_hook=lambda text: Raw(text.encode())).decode
encode = msgspec.json.Encoder().encode
canonical = msgspec.json.Encoder(order="sorted").encode
"""JSON bytes that are the same for the same value, whatever the order of its members was."""


class RpcError(Exception):
    """A request ends with this JSON-RPC error. `data` is JSON or None."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


def decode_object(raw: bytes | Raw) -> Message:
    """The members of a JSON object. Raises RpcError when it is none, or has too many."""
    if len(raw) > _FEW:
        _refuse_many(raw, INVALID_PARAMS)
    try:
        return _object(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RpcError(INVALID_PARAMS, f"not a JSON object: {error}") from None


def decode_array(raw: bytes | Raw) -> list[Raw]:
    """The items of a JSON array. Raises RpcError when it is none."""
    try:
        return _array.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RpcError(INVALID_PARAMS, f"not a JSON array: {error}") from None


def decode_str(raw: bytes | Raw | None) -> str | None:
    """The text of a JSON string, None for anything else."""
    if raw is None:
        return None
    try:
        return _string.decode(raw)
    except msgspec.DecodeError:
        return None


def _refuse_many(raw: bytes | Raw, code: int) -> None:
    """Raise RpcError where an object has more members than a message may have."""
    if exceeds(bytes(raw), _MOST):
        ENVELOPE_MEMBERS.record()
        of = "the message has" if code == INVALID_REQUEST else "params, a result or a part has"
        raise RpcError(code, f"{of} more than {_MOST} members, which is the limit")


def length(raw: bytes | Raw | None, most: int) -> int:
    """The number of items of an array; `most` + 1 where it has more than `most`.

    Takes little memory, however many there are. Raises RpcError when it is no array.
    """
    if raw is None:
        return 0
    return most + 1 if exceeds(bytes(raw), most) else len(decode_array(raw))


def decode(raw: bytes | Raw | None) -> Any:
    """The whole value; for small parts that have to be understood. None when it is not JSON."""
    if raw is None:
        return None
    try:
        return _any.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None


def canonicalize(raw: bytes | Raw) -> bytes:
    """A value in one spelling, but for its fractions and exponents, which stay as written.

    Takes time in proportion to its size, however deep it is. Raises RpcError for what is no JSON,
    is nested too deeply, or has an integer of thousands of digits.
    """
    try:
        return canonical(_exact(raw))
    except (msgspec.DecodeError, RecursionError) as error:
        raise RpcError(INVALID_PARAMS, f"not JSON that can be compared: {error}") from None


def encode_raw(content: Any) -> Raw:
    """JSON bytes of a value made of plain types and `Raw`."""
    return Raw(encode(content))


def parse(body: bytes) -> Message:
    """Return one JSON-RPC message: request, notification or response.

    Raises RpcError with PARSE_ERROR for text that even SDKs can't read as JSON, and INVALID_REQUEST
    for JSON that is not a single message.
    """
    return _parsed(body, of_backend=False)


def bounded(body: bytes) -> Message:
    """Return a message of a backend, whose params or result has not too many members.

    Raises RpcError, see `parse`.
    """
    message = _parsed(body, of_backend=True)
    if len(body) > _FEW:
        for name in ("params", "result"):
            if name in message:
                _refuse_many(message[name], INVALID_PARAMS)
    return message


def _parsed(body: bytes, *, of_backend: bool) -> Message:
    try:
        message = _decoded(body)
    except RpcError as error:
        if error.code != PARSE_ERROR:
            raise
        text = tolerance.repair_json(body, of_backend=of_backend)
        if text is None:
            raise
        message = _decoded(text)
    if message.get("jsonrpc") == VERSION:
        if _shaped(message):
            return message
        shapes.reshape(message, of_backend=of_backend)
        if _shaped(message):
            return message
    raise RpcError(INVALID_REQUEST, "the body is not a JSON-RPC 2.0 message")


def _decoded(body: bytes) -> Message:
    try:
        if not body.isascii():
            body.decode()
        if len(body) > _FEW:
            _refuse_many(body, INVALID_REQUEST)
        return _object(body)
    except msgspec.ValidationError:
        raise RpcError(
            INVALID_REQUEST, "the body must be a single JSON-RPC request, notification or response"
        ) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise RpcError(PARSE_ERROR, "the body is not JSON") from None


def parse_request_fast(body: bytes) -> RequestEnvelope | None:
    """A request, read two levels deep at once; None for whatever takes a closer look."""
    try:
        if not body.isascii():
            body.decode()
        if len(body) > _FEW and _may_have_many(body):
            return None
        found = _call(body)
        if found.params is None and b"params" in body:
            # It is null, which only looks as if it were absent.
            return None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    spelt = bytes(found.id)
    return found if spelt.isdigit() or spelt[:1] == b'"' else None


def _may_have_many(body: bytes) -> bool:
    """Whether params may have more members than they may have. Raises DecodeError."""
    if body.count(b",") < _MOST:
        return False
    found = _outline(body).params
    return len(body) - len(found.arguments) - len(found.meta) > _FEW


def parse_result_fast(body: bytes) -> ResultEnvelope | None:
    """A response with a result; None for whatever takes a closer look."""
    try:
        if not body.isascii():
            body.decode()
        return _success(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def _shaped(message: Message) -> bool:
    request_id = message.get("id")
    if request_id is not None and not (bytes(request_id).isdigit() or is_id(request_id)):
        # A response to a message that could not be read has a null id.
        return request_id == NULL and "error" in message and "result" not in message
    method = message.get("method")
    if method is not None:
        params = message.get("params")
        return bytes(method)[:1] == b'"' and (params is None or bytes(params)[:1] in b"{")
    if "error" in message:
        return (
            request_id is not None and "result" not in message and shapes.is_error(message["error"])
        )
    return request_id is not None and "result" in message


def is_id(raw: Raw) -> bool:
    """Whether this is a JSON-RPC id as MCP wants it: a string or an integer, however spelled."""
    head = bytes(raw)
    return head[:1] == b'"' or head.lstrip(b"-").isdigit() or _integer(head) is not None


def id_key(raw: bytes | Raw) -> bytes:
    """The same bytes for the same id or progress token, however a peer spells it."""
    text = bytes(raw)
    if text.isdigit() or (text[:1] == b'"' and b"\\" not in text):
        return text
    own = decode_str(text) if text[:1] == b'"' else None
    return (_integer(text) or text) if own is None else encode(own)


def _integer(text: bytes) -> bytes | None:
    """The plain spelling of an integer, 1.0 and 1e0 among them; None for anything else."""
    if text[:1] not in _NUMBER_BEGINS:
        return None
    try:
        number = Decimal(text.decode())
    except ArithmeticError:
        return None
    if number.adjusted() > MAX_ID_DIGITS or number != number.to_integral_value():
        return None
    return b"%d" % int(number)


def answers(message: Message, request_id: Raw) -> bool:
    """Whether a response is the one to the request with this id.

    As the SDKs do, it takes "7" for 7. A peer that could not read the id of a request answers with
    an error and the id null, or "server-error" (Python SDK 1.x).
    """
    given = message.get("id")
    if given is None or given == request_id:
        return given is not None
    own, wanted = id_key(given), id_key(request_id)
    if own == wanted or own == b'"%b"' % wanted or wanted == b'"%b"' % own:
        return True
    return own in _UNREAD and "error" in message


def response(request_id: bytes | Raw, result: bytes | Raw) -> bytes:
    """A response with this result."""
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (bytes(request_id), bytes(result))


def response_parts(
    request_id: bytes | Raw, result: tuple[bytes, bytes, bytes]
) -> tuple[bytes, bytes, bytes]:
    """A response in parts, from those of its result; the second one is not copied."""
    head, body, tail = result
    return b'{"jsonrpc":"2.0","id":%b,"result":%b' % (bytes(request_id), head), body, tail + b"}"


def error_response(request_id: bytes | Raw | None, error: RpcError) -> bytes:
    """A response with this error; a request whose id is not known is answered with id null."""
    content = {"code": error.code, "message": error.message}
    if error.data is not None:
        content["data"] = error.data
    shown = b"null" if request_id is None else bytes(request_id)
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (shown, encode(content))


def notification(method: str, params: Mapping[str, Any] | bytes | None = None) -> bytes:
    """A notification."""
    if params is None:
        return encode({"jsonrpc": "2.0", "method": method})
    raw = Raw(params) if isinstance(params, bytes) else params
    return encode({"jsonrpc": "2.0", "method": method, "params": raw})


def notification_message(method: str, params: Mapping[str, Any] | None = None) -> Message:
    """The members of a notification."""
    message = {"jsonrpc": VERSION, "method": encode_raw(method)}
    return message if params is None else {**message, "params": encode_raw(params)}


def request(request_id: Any, method: str, params: Mapping[str, Any] | bytes | None = None) -> bytes:
    """A request of our own, or one that was relabelled."""
    content: dict[str, Any] = {"jsonrpc": "2.0", "id": request_id, "method": method}
    if params is not None:
        content["params"] = Raw(params) if isinstance(params, bytes) else params
    return encode(content)


def replace_member(raw: bytes | Raw | None, **changed: Any) -> Raw:
    """A JSON object with some members set, or removed where the new value is None."""
    content: dict[str, Any] = {} if raw is None else dict(decode_object(raw))
    for name, new in changed.items():
        if new is None:
            content.pop(name, None)
        else:
            content[name] = new
    return encode_raw(content)


def error_of(message: Message, *, understood: bool = False) -> RpcError | None:
    """The error of a response, if it is one.

    Its data may be of any size, and stays JSON unless it is to be `understood`.
    """
    raw = message.get("error")
    if raw is None:
        return None
    try:
        found = _error(raw)
    except (msgspec.DecodeError, RecursionError):
        return RpcError(INTERNAL_ERROR, "the backend sent an error without a code")
    data = None if bytes(found.data) in (b"", b"null") else found.data
    text = decode_str(found.message)
    return RpcError(found.code, text or "", decode(data) if understood else data)
