"""Replies, and whether they are what was asked for: every one is checked by id and content."""

from dataclasses import dataclass
from typing import Final

import msgspec

from bench import messages
from bench.messages import Operation


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP response; status 0 when the connection ended before it."""

    status: int
    body: bytes


class Envelope(msgspec.Struct):
    """Members of a JSON-RPC message that are read."""

    id: int | str | None = None
    method: str | None = None
    params: msgspec.Raw = msgspec.Raw()
    result: msgspec.Raw = msgspec.Raw()


class Progress(msgspec.Struct):
    """The parameters of notifications/progress."""

    token: int | str = msgspec.field(name="progressToken")
    progress: float


_envelope: Final = msgspec.json.Decoder(Envelope)
_progress: Final = msgspec.json.Decoder(Progress)


class BadReply(Exception):
    """A reply that is not what was asked for."""

    def __init__(self, request: str, reply: Reply) -> None:
        super().__init__(f"{request}: HTTP {reply.status}: {reply.body[:300]!r}")


def messages_of(body: bytes) -> list[bytes]:
    """The JSON-RPC messages of a body, which is JSON or an event stream."""
    if body[:1] == b"{":
        return [body]
    lines = (line[5:].strip() for line in body.split(b"\n") if line[:5] == b"data:")
    return [line for line in lines if line]


def message_of(reply: Reply, number: int) -> tuple[list[bytes], bytes] | None:
    """The messages before the result, and the result; None unless it has this id."""
    actual = messages_of(reply.body) if reply.status == 200 else []
    if not actual:
        return None
    try:
        envelope = _envelope.decode(actual[-1])
    except msgspec.MsgspecError:
        return None
    if envelope.id != number or not envelope.result:
        return None
    return actual[:-1], bytes(envelope.result)


class Checker:
    """Checks the replies of one load.

    A list that was found right is compared byte by byte with those that follow: to read 1,000 tools
    anew would cost more than to serve them.
    """

    def __init__(self, operation: Operation, tools: int) -> None:
        self._operation, self._tools = operation, tools
        self._around: tuple[bytes, bytes] | None = None

    def is_right(self, number: int, reply: Reply) -> bool:
        mark = b'"id":%d' % number
        if self._around is not None and reply.status == 200:
            before, after = self._around
            if reply.body == b"%s%s%s" % (before, mark, after):
                return True
        right = is_right(self._operation, number, reply, self._tools)
        if right and self._operation == "list" and mark in reply.body:
            before, _, after = reply.body.partition(mark)
            self._around = before, after
        return right


def is_right(operation: Operation, number: int, reply: Reply, tools: int) -> bool:
    """Return True if the reply is that of the operation; `tools` is the number in a list."""
    message = message_of(reply, number)
    if message is None:
        return False
    before, result = message
    if operation == "initialize":
        return b'"serverInfo"' in result
    if operation == "list":
        return result.count(b'"inputSchema"') == tools
    if not _says(operation, number, result) or result.find(b'"isError":true', -200) >= 0:
        return False
    return operation != "progress" or _is_whole(before, number)


def _says(operation: Operation, number: int, result: bytes) -> bool:
    said = b'"' + messages.text(number).encode()
    begun = result.find(said)
    # A search for all of it would cost more than the call.
    rest = messages.PADDING + b'"' if operation == "large" else b'"'
    return begun >= 0 and result.startswith(rest, begun + len(said))


def _is_whole(before: list[bytes], number: int) -> bool:
    """Return True if these are all notifications of the call, in their order."""
    try:
        envelopes = [_envelope.decode(message) for message in before]
        if any(envelope.method != "notifications/progress" for envelope in envelopes):
            return False
        steps = [_progress.decode(envelope.params) for envelope in envelopes]
    except msgspec.MsgspecError:
        return False
    expected = [(number, step) for step in range(1, messages.NOTIFICATIONS + 1)]
    return [(step.token, step.progress) for step in steps] == expected
