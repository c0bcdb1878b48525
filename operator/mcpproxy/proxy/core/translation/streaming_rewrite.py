"""Streaming translation of responses that are too large for memory, to downstream names.

The rewriter changes the same fields as `to_downstream_result`, which it identifies by their path.
All other bytes pass unparsed, and unchanged if they are UTF-8.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from msgspec import Raw

from mcpproxy.proxy.core.errors import ProtocolError
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.core.translation.result_names import LINKS, RELATED_TASK
from mcpproxy.proxy.protocol import jsonrpc, tolerance

MAX_HELD: Final = 64 * 1024
"""Maximum size of a name, of a field name or of a URI, in bytes."""
_BETWEEN: Final = re.compile(rb"[\s,:]*+")
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_INSIDE: Final = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_SCALAR: Final = re.compile(rb'[^\s,:"{}\[\]]*+')
_FLAT: Final = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
"""Everything up to a bracket or to an incomplete string."""


class MalformedJson(ValueError):
    """The response is not JSON, or cannot be forwarded."""


@dataclass(frozen=True, slots=True)
class _Path:
    """Rules for the values at one path of a response."""

    members: Mapping[str, "_Path"] = field(default_factory=dict)
    items: "_Path | None" = None
    holds: str = ""
    """Meaning of a string here: `uri`, `task`, `id`, or empty."""
    of: str = ""
    """The value of `type` that the enclosing object must have; empty for any."""


_URI: Final = _Path(holds="uri")
_TASK_ID: Final = _Path(holds="task")
_TASK: Final = _Path(members={"taskId": _TASK_ID})
_META: Final = _Path(
    members={
        "ui": _Path(members={"resourceUri": _URI}),
        **dict.fromkeys(LINKS, _URI),
        RELATED_TASK: _TASK,
    }
)
_LINKED: Final = _Path(members={"uri": _URI, "_meta": _META})
_BLOCK: Final = _Path(
    members={
        "uri": _Path(holds="uri", of="resource_link"),
        "resource": _Path(members=_LINKED.members, of="resource"),
        "_meta": _META,
    }
)
_FILES: Final = _Path(items=_Path(members={"uri": _URI}))
_SKILL: Final = _Path(members={"uri": _URI, "resources": _FILES})
_CALLED: Final = _Path(
    members={
        "content": _Path(items=_BLOCK),
        "_meta": _META,
        "taskId": _TASK_ID,
        "task": _TASK,
    }
)
_MESSAGES: Final = _Path(items=_Path(members={"content": _BLOCK}))
_RESULTS: Final = {
    "tools/call": _CALLED,
    "prompts/get": _Path(members={"messages": _MESSAGES, "_meta": _META}),
    "resources/read": _Path(members={"contents": _Path(items=_LINKED), "_meta": _META}),
    "tasks/get": _Path(members={"taskId": _TASK_ID, "result": _CALLED, "_meta": _META}),
    "tasks/result": _CALLED,
    "tasks/list": _Path(members={"tasks": _Path(items=_TASK)}),
    "skills/get": _Path(members={"skill": _SKILL}),
    "skills/list": _Path(members={"skills": _Path(items=_SKILL)}),
    "resources/directory/read": _Path(members={"resources": _Path(items=_LINKED)}),
}
_ID: Final = _Path(holds="id")
_KINDS: Final = ("result", "error", "method")


@dataclass(slots=True)
class _Frame:
    """Object or array that is not complete."""

    place: _Path
    object: bool
    key: str | None = None
    """Name of the field whose value is next; None if a name is next."""
    type: str = ""
    """Value of the field `type`, once it was read."""
    outer: "tuple[_Frame, str] | None" = None
    """Enclosing object, if its type is unknown and decides whether this one matters."""
    waiting: list[tuple[int, bytes, bytes, str]] = field(default_factory=list)
    """Replacements that depend on the type: (index in `_out`, original, replacement, type)."""

    def set_key(self, key: str | None) -> None:
        """Record the name of a field, or that a name is next."""
        self.key = key

    def set_type(self, name: str) -> None:
        """Record the value of the field `type`."""
        self.type = name

    def next(self) -> _Path | None:
        """Return the rules for the next value."""
        if not self.object:
            return self.place.items
        place = self.place.members.get(self.key or "")
        return None if place is None or self.type not in ("", place.of or self.type) else place


class StreamingRewriter:
    """Rewriter of one response. It also replaces the id with that of the client's request."""

    def __init__(
        self,
        request_id: Raw,
        method: str,
        names: PrefixMapping,
        known_as: Raw | None = None,
        principal: str = "",
        added: Mapping[str, Raw] | None = None,
    ) -> None:
        """Create a rewriter.

        `known_as` is the upstream request id; None skips its check. `principal` is the client's.
        `added` are encoded values of fields that are added to a result without them.
        """
        members = {"id": _ID}
        if names.change and method in _RESULTS:
            members["result"] = _RESULTS[method]
        self._missing = dict(added or {})
        self._result: _Path | None = None
        """Rules for the result if fields may have to be added to it."""
        if self._missing:
            self._result = _Path(members["result"].members if "result" in members else {})
            members["result"] = self._result
        self._result_is_empty = True
        self.kind = ""
        """`result`, `error` or `method`, whichever field is first; empty until then."""
        self.complete = False
        """True once the response is complete."""
        self.identified = False
        """True once the id was read."""
        self._root = _Path(members=members)
        self._id = bytes(request_id)
        self._known_as = known_as
        self._names = names
        self._principal = principal
        self._utf8 = tolerance.Utf8Repair()
        self._levels: list[_Frame] = []
        self._skipped = 0
        """Number of open brackets in a value that is passed through."""
        self._inside = False
        """True inside a string that is passed through."""
        self._data = b""
        self._sent = 0
        """Number of bytes of `_data` that are already in `_out`."""
        self._out: list[bytes | None] = []
        """Output; None stands for a replacement that depends on an unknown type."""

    def feed(self, part: bytes) -> bytes:
        """Return the output that is certain after this part. Raise MalformedJson."""
        self._data += self._utf8.feed(part)
        at = 0
        while at < len(self._data):
            after = self._step(at)
            if after is None:
                break
            at = after
        if len(self._data) - at > MAX_HELD:
            raise MalformedJson(f"a name or URI has more than {MAX_HELD} bytes")
        self._out.append(self._data[self._sent : at])
        self._data, self._sent = self._data[at:], 0
        return self._take_certain()

    def _take_certain(self) -> bytes:
        """Return the certain output; force a decision if too much is held."""
        if None not in self._out:
            parts, self._out = self._out, []
            return b"".join(part for part in parts if part is not None)
        if sum(len(part or b"") for part in self._out) > MAX_HELD:
            for level in self._levels:
                self._decide_type(level, None)
            return self._take_certain()
        return b""

    def _decide_type(self, level: _Frame, type_: str | None) -> None:
        """Decide the replacements that depend on the type of an object; None means unknown."""
        for place, original, replacement, wanted in level.waiting:
            self._out[place] = replacement if type_ in (None, wanted) else original
        level.waiting.clear()

    def _step(self, at: int) -> int | None:
        """Return the end of the next token or run, or None if it is incomplete."""
        if self._inside:
            return self._skip_string(at)
        if self._skipped:
            return self._skip_value(at)
        match = _BETWEEN.match(self._data, at)
        assert match is not None
        if match.end() > at:
            return match.end()
        mark = self._data[at : at + 1]
        if self.complete:
            raise MalformedJson("more than one message")
        if mark in b"{[":
            return self._open(at, is_object=mark == b"{")
        if mark in b"}]":
            return self._close(at, is_object=mark == b"}")
        if not self._levels:
            raise MalformedJson("not a JSON object")
        return self._string(at) if mark == b'"' else self._scalar(at)

    def passes_unchanged(self, part: bytes) -> bool:
        """True if the whole part certainly belongs to one string that is passed through."""
        return self._inside and part.find(b'"') < 0

    def _skip_string(self, at: int) -> int | None:
        quote = self._data.find(b'"', at)
        end = len(self._data) if quote < 0 else quote
        if end > at and self._data.find(b"\\", at, end) < 0:
            # A search for one byte takes a fraction of the time of the expression.
            self._inside = quote < 0
            return end if quote < 0 else end + 1
        match = _INSIDE.match(self._data, at)
        assert match is not None
        end = match.end()
        if self._data[end : end + 1] == b'"':
            self._inside = False
            return end + 1
        return end if end > at else None

    def _skip_value(self, at: int) -> int:
        match = _FLAT.match(self._data, at)
        assert match is not None
        end = match.end()
        mark = self._data[end : end + 1]
        if mark == b'"':
            self._inside = True
        elif mark and mark in b"{[":
            self._skipped += 1
        elif mark:
            self._skipped -= 1
            if not self._skipped:
                self._end_value()
        return end + len(mark)

    def _open(self, at: int, *, is_object: bool) -> int:
        if self._levels:
            place = self._levels[-1].next()
        else:
            place = self._root if is_object else None
            if place is None:
                raise MalformedJson("not a JSON object")
        if not is_object:
            self._refuse_result(place)
        if place is not None and (
            place is self._result or (place.members if is_object else place.items)
        ):
            above = self._levels[-1] if self._levels else None
            outer = (above, place.of) if above and place.of and not above.type else None
            self._levels.append(_Frame(place, is_object, outer=outer))
        else:
            self._skipped = 1
        return at + 1

    def _close(self, at: int, *, is_object: bool) -> int:
        if not self._levels or self._levels[-1].object != is_object:
            raise MalformedJson("unmatched closing bracket")
        level = self._levels.pop()
        self._decide_type(level, "")
        if level.place is self._result:
            self._add_missing(at)
        self._end_value()
        return at + 1

    def _refuse_result(self, place: _Path | None) -> None:
        """Raise MalformedJson if this is the place of a result to which fields are added."""
        if place is not None and place is self._result:
            raise MalformedJson("the result is not an object")

    def _add_missing(self, at: int) -> None:
        """Add the fields that the result lacks, at its end."""
        fields = [b'"%b":%b' % (name.encode(), bytes(text)) for name, text in self._missing.items()]
        if not self._result_is_empty:
            fields.insert(0, b"")
        self._out += (self._data[self._sent : at], b",".join(fields) if self._missing else b"")
        self._sent = at

    def _end_value(self) -> None:
        """Handle the end of a value."""
        if self._levels:
            self._levels[-1].set_key(None)
        else:
            self.complete = True

    def _string(self, at: int) -> int | None:
        level = self._levels[-1]
        place = level.next()
        is_key = level.object and level.key is None
        match = _STRING.match(self._data, at)
        if is_key:
            if match is None:
                return None
            key = _text_of(match.group())
            level.set_key(key)
            if level.place is self._result:
                self._result_is_empty = False
                self._missing.pop(key, None)
            if not self.kind and key in _KINDS:
                self.kind = key
            return match.end()
        self._refuse_result(place)
        if place is None and level.key != "type":
            self._end_value()
            if match is None:
                self._inside = True
                return at + 1
            return match.end()
        if match is None:
            return None
        if level.key == "type":
            level.set_type(_text_of(match.group()))
            self._decide_type(level, level.type)
        if place is not None and place.holds:
            self._replace(at, match.end(), place)
        self._end_value()
        return match.end()

    def _scalar(self, at: int) -> int | None:
        match = _SCALAR.match(self._data, at)
        assert match is not None
        end = match.end()
        if end == len(self._data):
            return None
        place = self._levels[-1].next()
        self._refuse_result(place)
        if place is not None and place.holds == "id":
            self._replace(at, end, place)
        self._end_value()
        return end

    def _replace(self, at: int, end: int, place: _Path) -> None:
        plain = self._data[at:end]
        value: bytes | None = self._id
        if place.holds == "id":
            upstream_id = self._known_as
            if not (upstream_id is None or jsonrpc.answers({"id": Raw(plain)}, upstream_id)):
                raise MalformedJson("the id does not match the request")
            self.identified = True
        elif place.holds:
            value = downstream = self._to_downstream(place.holds, plain)
            level = self._levels[-1]
            decides = (level, place.of) if place.of and not level.type else level.outer
            if decides is not None:
                value = None
                waiting = (len(self._out) + 1, plain, downstream, decides[1])
                decides[0].waiting.append(waiting)
        self._out += (self._data[self._sent : at], value)
        self._sent = end

    def _to_downstream(self, holds: str, plain: bytes) -> bytes:
        """Return a URI or task id as clients know it. Raise MalformedJson."""
        upstream = _text_of(plain)
        if holds == "uri":
            return (
                jsonrpc.encode(self._names.uri_to_downstream(upstream))
                if self._names.prefix
                else plain
            )
        try:
            return jsonrpc.encode(self._names.tasks.to_downstream(upstream, self._principal))
        except ProtocolError as error:
            raise MalformedJson(str(error)) from None


def _text_of(encoded: bytes) -> str:
    """Return the text of a JSON string, repaired as in a small result. Raise MalformedJson."""
    text = jsonrpc.decode_str(encoded)
    if text is None:
        text = jsonrpc.decode_str(tolerance.repair_json(encoded, of_backend=True))
    if text is None:
        raise MalformedJson("a string cannot be decoded")
    return text
