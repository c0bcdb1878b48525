"""JSON-RPC envelopes, parsed one level deep; every value keeps its bytes.

`Message` maps the fields of one JSON object to their raw bytes, in order and including unknown
ones, so that everything the proxy does not rewrite leaves unchanged.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec
from msgspec import Raw

from mcpproxy.limits.http import ENVELOPE_MEMBERS
from mcpproxy.proxy.protocol import shapes, tolerance
from mcpproxy.proxy.protocol.sizes import LEAST, exceeds
from mcpproxy.proxy.protocol.tolerance import MALFORMED

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
"""Code with which servers of the SDKs respond to a cancelled request."""

VERSION: Final = Raw(b'"2.0"')
NULL: Final = Raw(b"null")
EMPTY: Final = Raw(b"{}")
MAX_ID_DIGITS: Final = 400
"""Maximum number of digits of a number that can be an id."""
_MOST: Final = ENVELOPE_MEMBERS.value
_FEW: Final = LEAST * _MOST
"""Size in bytes below which a text cannot exceed the limit of fields."""
_UNREAD: Final = (b"null", b'"server-error"')
_NUMBER_BEGINS: Final = tuple(b"%c" % c for c in b"-0123456789")


class RequestEnvelope(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Request with the usual fields and no others."""

    jsonrpc: Literal["2.0"]
    id: Raw
    method: str
    params: Message | None = None


class _Heavy(msgspec.Struct):
    """Fields of params that may have any size; the decoder skips all others."""

    arguments: Raw = Raw(b"")
    meta: Raw = msgspec.field(default=Raw(b""), name="_meta")


class _Outline(msgspec.Struct):
    params: _Heavy = msgspec.field(default_factory=_Heavy)


class ResultEnvelope(msgspec.Struct, forbid_unknown_fields=True):
    """Response with the usual fields and no others."""

    jsonrpc: Literal["2.0"]
    id: Raw
    result: Raw


class _Error(msgspec.Struct):
    """Fields of an error; only the code is decoded."""

    code: int
    message: Raw = Raw(b'""')
    data: Raw = Raw(b"")


# Bound once, because they are called for every message.
_object: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_call: Final = msgspec.json.Decoder(RequestEnvelope).decode
_outline: Final = msgspec.json.Decoder(_Outline).decode
_success: Final = msgspec.json.Decoder(ResultEnvelope).decode
_error: Final = msgspec.json.Decoder(_Error).decode
_array = msgspec.json.Decoder(list[Raw])
_string = msgspec.json.Decoder(str)
decode_any: Final = msgspec.json.Decoder().decode
# Numbers beyond every machine type are valid JSON.
decode_exactly: Final = msgspec.json.Decoder(float_hook=lambda text: Raw(text.encode())).decode
encode = msgspec.json.Encoder().encode
canonical = msgspec.json.Encoder(order="sorted").encode
"""Encode a value as JSON with sorted keys, so that equal values have equal bytes."""


class RpcError(Exception):
    """JSON-RPC error that ends a request. `data` is JSON or None."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


def decode_object(raw: bytes | Raw) -> Message:
    """Return the fields of a JSON object. Raise RpcError if it is malformed or has too many."""
    if len(raw) > _FEW:
        _refuse_many(raw, INVALID_PARAMS)
    try:
        return _object(raw)
    except MALFORMED as error:
        raise RpcError(INVALID_PARAMS, f"not a JSON object: {error}") from None


def decode_array(raw: bytes | Raw) -> list[Raw]:
    """Return the items of a JSON array. Raise RpcError if it is malformed."""
    try:
        return _array.decode(raw)
    except MALFORMED as error:
        raise RpcError(INVALID_PARAMS, f"not a JSON array: {error}") from None


def decode_str(raw: bytes | Raw | None) -> str | None:
    """Return the text of a JSON string; None for any other value, or if it is malformed."""
    try:
        return None if raw is None else _string.decode(raw)
    except MALFORMED:
        return None


def _refuse_many(raw: bytes | Raw, code: int) -> None:
    """Raise RpcError if an object has more fields than a message may have."""
    if exceeds(bytes(raw), _MOST):
        ENVELOPE_MEMBERS.record()
        of = "the message has" if code == INVALID_REQUEST else "params, result or a field has"
        raise RpcError(code, f"{of} more than {_MOST} fields")


def length(raw: bytes | Raw | None, most: int) -> int:
    """Return the number of items of an array, or `most` + 1 if it has more than `most`.

    The cost in memory is small for any number of items. Raise RpcError if it is not an array.
    """
    if raw is None:
        return 0
    return most + 1 if exceeds(bytes(raw), most) else len(decode_array(raw))


def decode(raw: bytes | Raw | None) -> Any:
    """Decode a whole value, for small values that must be understood. Return None if malformed."""
    try:
        return None if raw is None else decode_any(raw)
    except MALFORMED:
        return None


def canonicalize(raw: bytes | Raw) -> bytes:
    """Return a value in canonical form; fractions and exponents stay as written.

    The time is proportional to the size of the value. Raise RpcError if it is malformed, is nested
    too deeply, is not UTF-8, or has an integer of thousands of digits.
    """
    try:
        return canonical(decode_exactly(raw))
    except MALFORMED as error:
        raise RpcError(INVALID_PARAMS, f"invalid JSON: {error}") from None


def encode_raw(content: Any) -> Raw:
    """Encode a value of plain types and `Raw` as JSON."""
    return Raw(encode(content))


def parse(body: bytes) -> Message:
    """Return one JSON-RPC message: request, notification or response.

    Raise RpcError with PARSE_ERROR for text that even SDKs cannot read as JSON, and with
    INVALID_REQUEST for JSON that is not a single message.
    """
    return _parse(body, of_backend=False)


def parse_bounded(body: bytes) -> Message:
    """Return a backend's message; its params and result are limited in their number of fields.

    Raise RpcError; see `parse`.
    """
    message = _parse(body, of_backend=True)
    if len(body) > _FEW:
        for name in ("params", "result"):
            if name in message:
                _refuse_many(message[name], INVALID_PARAMS)
    return message


def _parse(body: bytes, *, of_backend: bool) -> Message:
    try:
        message = _decode(body)
    except RpcError as error:
        if error.code != PARSE_ERROR:
            raise
        text = tolerance.repair_json(body, of_backend=of_backend)
        if text is None:
            raise
        message = _decode(text)
    if message.get("jsonrpc") != VERSION:
        shapes.unescape_version(message)
    if message.get("jsonrpc") == VERSION and (of_backend or not shapes.has_case_variant(message)):
        if _is_valid(message):
            return message
        shapes.reshape(message, of_backend=of_backend)
        if _is_valid(message):
            return message
    raise RpcError(INVALID_REQUEST, "the body is not a JSON-RPC 2.0 message")


def _decode(body: bytes) -> Message:
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
    except MALFORMED:
        raise RpcError(PARSE_ERROR, "the body is not valid JSON") from None


def parse_request_fast(body: bytes) -> RequestEnvelope | None:
    """Parse a request two levels deep at once; return None if it needs the thorough parser."""
    try:
        if not body.isascii():
            body.decode()
        if len(body) > _FEW and _may_have_many(body):
            return None
        envelope = _call(body)
        if envelope.params is None and b"params" in body:
            # An explicit null, which the decoder cannot distinguish from an absent field.
            return None
    except MALFORMED:
        return None
    request_id = bytes(envelope.id)
    return envelope if request_id.isdigit() or request_id[:1] == b'"' else None


def _may_have_many(body: bytes) -> bool:
    """Return True if params may exceed the limit of fields. Raise DecodeError."""
    if body.count(b",") < _MOST:
        return False
    heavy = _outline(body).params
    return len(body) - len(heavy.arguments) - len(heavy.meta) > _FEW


def parse_result_fast(body: bytes) -> ResultEnvelope | None:
    """Parse a response with a result; return None if it needs the thorough parser."""
    try:
        if not body.isascii():
            body.decode()
        return _success(body)
    except MALFORMED:
        return None


def _is_valid(message: Message) -> bool:
    request_id = message.get("id")
    if request_id is not None and not (bytes(request_id).isdigit() or is_id(request_id)):
        # A response to a message that could not be parsed has a null id.
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
    """Return True if this is an id that MCP allows: a string or an integer in any notation."""
    text = bytes(raw)
    return text[:1] == b'"' or text.lstrip(b"-").isdigit() or _integer(text) is not None


def id_key(raw: bytes | Raw) -> bytes:
    """Return the canonical bytes of an id or progress token, so that equal ids have equal bytes."""
    text = bytes(raw)
    if text.isdigit() or (text[:1] == b'"' and b"\\" not in text):
        return text
    decoded = decode_str(text) if text[:1] == b'"' else None
    return (_integer(text) or text) if decoded is None else encode(decoded)


def _integer(text: bytes) -> bytes | None:
    """Return an integer without fraction and exponent (1.0 and 1e0 are integers), or None."""
    if text[:1] not in _NUMBER_BEGINS:
        return None
    try:
        number = Decimal(text.decode())
    except (ArithmeticError, UnicodeDecodeError):
        return None
    if number.adjusted() > MAX_ID_DIGITS or number != number.to_integral_value():
        return None
    return b"%d" % int(number)


def answers(message: Message, request_id: Raw) -> bool:
    """Return True if a response belongs to the request with this id.

    Like the SDKs, it accepts "7" for 7. A peer that could not read the id of a request responds
    with an error and the id null, or "server-error" (Python SDK 1.x).
    """
    response_id = message.get("id")
    if response_id is None or response_id == request_id:
        return response_id is not None
    key, expected = id_key(response_id), id_key(request_id)
    if key == expected or key == b'"%b"' % expected or expected == b'"%b"' % key:
        return True
    return key in _UNREAD and "error" in message


def response(request_id: bytes | Raw, result: bytes | Raw) -> bytes:
    """Return a response with this result."""
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (bytes(request_id), bytes(result))


def response_parts(
    request_id: bytes | Raw, result: tuple[bytes, bytes, bytes]
) -> tuple[bytes, bytes, bytes]:
    """Return a response in parts, from the parts of its result; the second part is not copied."""
    head, body, tail = result
    return b'{"jsonrpc":"2.0","id":%b,"result":%b' % (bytes(request_id), head), body, tail + b"}"


def error_response(request_id: bytes | Raw | None, error: RpcError) -> bytes:
    """Return a response with this error. If the request id is unknown, the id is null."""
    content = {"code": error.code, "message": error.message}
    if error.data is not None:
        content["data"] = error.data
    encoded_id = b"null" if request_id is None else bytes(request_id)
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (encoded_id, encode(content))


def notification(method: str, params: Mapping[str, Any] | bytes | None = None) -> bytes:
    """Return an encoded notification."""
    if params is None:
        return encode({"jsonrpc": "2.0", "method": method})
    raw = Raw(params) if isinstance(params, bytes) else params
    return encode({"jsonrpc": "2.0", "method": method, "params": raw})


def notification_message(method: str, params: Mapping[str, Any] | None = None) -> Message:
    """Return the fields of a notification."""
    message = {"jsonrpc": VERSION, "method": encode_raw(method)}
    return message if params is None else {**message, "params": encode_raw(params)}


def request(request_id: Any, method: str, params: Mapping[str, Any] | bytes | None = None) -> bytes:
    """Return an encoded request."""
    content: dict[str, Any] = {"jsonrpc": "2.0", "id": request_id, "method": method}
    if params is not None:
        content["params"] = Raw(params) if isinstance(params, bytes) else params
    return encode(content)


def replace_member(raw: bytes | Raw | None, **changed: Any) -> Raw:
    """Return a JSON object with some fields set, or removed if the new value is None."""
    content: dict[str, Any] = {} if raw is None else dict(decode_object(raw))
    for name, new in changed.items():
        if new is None:
            content.pop(name, None)
        else:
            content[name] = new
    return encode_raw(content)


def error_of(message: Message, *, understood: bool = False) -> RpcError | None:
    """Return the error of a response, or None if it has none.

    The data may have any size and stays encoded unless it is to be `understood`.
    """
    raw = message.get("error")
    if raw is None:
        return None
    try:
        fields = _error(raw)
    except MALFORMED:
        return RpcError(INTERNAL_ERROR, "the backend sent an error without a code")
    data = None if bytes(fields.data) in (b"", b"null") else fields.data
    text = decode_str(fields.message)
    return RpcError(fields.code, text or "", decode(data) if understood else data)
