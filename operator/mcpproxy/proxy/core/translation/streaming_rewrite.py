"""A response that is too large to be held: sent on part by part, with the names that clients know.

What `rewrite` does with a whole result is done here on its way, by the place at which a value
stands. Everything else stays the bytes it was, and is not understood.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from msgspec import Raw

from mcpproxy.proxy.core.errors import ProtocolError
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.core.translation.result_names import LINKS, RELATED_TASK
from mcpproxy.proxy.protocol import jsonrpc

MAX_HELD: Final = 64 * 1024
"""Bytes of a name, of a member or of a URI; more is no MCP."""
_BETWEEN: Final = re.compile(rb"[\s,:]*+")
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_INSIDE: Final = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_SCALAR: Final = re.compile(rb'[^\s,:"{}\[\]]*+')
_FLAT: Final = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
"""All up to a bracket, or to a string that is not complete."""


class MalformedJson(ValueError):
    """It is no JSON, or none that we can send on."""


@dataclass(frozen=True, slots=True)
class _Path:
    """Where a value stands; of what has no place, nothing is of interest."""

    members: Mapping[str, "_Path"] = field(default_factory=dict)
    items: "_Path | None" = None
    holds: str = ""
    """What a string is here: `uri`, `task` or `id`."""
    of: str = ""
    """The type of the object that it has to be a member of."""


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
_PROMPTED: Final = _Path(items=_Path(members={"content": _BLOCK}))
_RESULTS: Final = {
    "tools/call": _CALLED,
    "prompts/get": _Path(members={"messages": _PROMPTED, "_meta": _META}),
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
    """An object or array that is open."""

    place: _Path
    object: bool
    key: str | None = None
    """The member whose value comes; None where its name does."""
    type: str = ""
    """The member `type`, once it was seen."""
    outer: "tuple[_Frame, str] | None" = None
    """The object that has to be of a type for this to be of interest, where that comes later."""
    waiting: list[tuple[int, bytes, bytes, str]] = field(default_factory=list)
    """What waits for the type: where it is to go, as it is and as clients know it, and which type
    that is for."""

    def next(self) -> _Path | None:
        """The place of the value that comes."""
        if not self.object:
            return self.place.items
        found = self.place.members.get(self.key or "")
        return None if found is None or self.type not in ("", found.of or self.type) else found


class StreamingRewriter:
    """One response on its way. Its id becomes that of the client's request."""

    def __init__(
        self,
        request_id: Raw,
        method: str,
        names: PrefixMapping,
        known_as: Raw | None = None,
        principal: str = "",
    ) -> None:
        """`known_as` is the id of the request at the backend; None: that is not checked.

        `principal` is the client's.
        """
        members = {"id": _ID}
        if names.change and method in _RESULTS:
            members["result"] = _RESULTS[method]
        self.kind = ""
        """`result`, `error` or `method`, whichever member comes first; empty until then."""
        self.complete = False
        """Whether the response is there as a whole."""
        self.identified = False
        """Whether its id was seen."""
        self._root = _Path(members=members)
        self._id = bytes(request_id)
        self._known_as = known_as
        self._names = names
        self._principal = principal
        self._levels: list[_Frame] = []
        self._skipped = 0
        """Open brackets of a value that is of no interest."""
        self._inside = False
        """In the middle of a string that is of no interest."""
        self._data = b""
        self._sent = 0
        """So much of it has been dealt with."""
        self._out: list[bytes | None] = []
        """None stands for what waits for the type of its object."""

    def feed(self, part: bytes) -> bytes:
        """What can be sent on when this has come. Raises Garbled."""
        self._data += part
        at = 0
        while at < len(self._data):
            after = self._step(at)
            if after is None:
                break
            at = after
        if len(self._data) - at > MAX_HELD:
            raise MalformedJson(f"a name or URI is longer than {MAX_HELD} bytes")
        self._out.append(self._data[self._sent : at])
        self._data, self._sent = self._data[at:], 0
        return self._known()

    def _known(self) -> bytes:
        """What can be sent on, up to what waits; but that is not held for too long."""
        if None not in self._out:
            found, self._out = self._out, []
            return b"".join(part for part in found if part is not None)
        if sum(len(part or b"") for part in self._out) > MAX_HELD:
            for level in self._levels:
                self._typed(level, None)
            return self._known()
        return b""

    def _typed(self, level: _Frame, type_: str | None) -> None:
        """The type of an object is known, or is not waited for any longer (None)."""
        for place, plain, outward, wanted in level.waiting:
            self._out[place] = outward if type_ in (None, wanted) else plain
        level.waiting.clear()

    def _step(self, at: int) -> int | None:
        """Where what begins here ends; None if that is still to come."""
        if self._inside:
            return self._passed_string(at)
        if self._skipped:
            return self._passed_value(at)
        found = _BETWEEN.match(self._data, at)
        assert found is not None
        if found.end() > at:
            return found.end()
        mark = self._data[at : at + 1]
        if self.complete:
            raise MalformedJson("there is more than one message")
        if mark in b"{[":
            return self._opened(at, is_object=mark == b"{")
        if mark in b"}]":
            return self._closed(at, is_object=mark == b"}")
        if not self._levels:
            raise MalformedJson("it is no JSON object")
        return self._string(at) if mark == b'"' else self._scalar(at)

    def _passed_string(self, at: int) -> int | None:
        found = _INSIDE.match(self._data, at)
        assert found is not None
        end = found.end()
        if self._data[end : end + 1] == b'"':
            self._inside = False
            return end + 1
        return end if end > at else None

    def _passed_value(self, at: int) -> int:
        found = _FLAT.match(self._data, at)
        assert found is not None
        end = found.end()
        mark = self._data[end : end + 1]
        if mark == b'"':
            self._inside = True
        elif mark and mark in b"{[":
            self._skipped += 1
        elif mark:
            self._skipped -= 1
            if not self._skipped:
                self._over()
        return end + len(mark)

    def _opened(self, at: int, *, is_object: bool) -> int:
        if self._levels:
            place = self._levels[-1].next()
        else:
            place = self._root if is_object else None
            if place is None:
                raise MalformedJson("it is no JSON object")
        if place is not None and (place.members if is_object else place.items):
            above = self._levels[-1] if self._levels else None
            outer = (above, place.of) if above and place.of and not above.type else None
            self._levels.append(_Frame(place, is_object, outer=outer))
        else:
            self._skipped = 1
        return at + 1

    def _closed(self, at: int, *, is_object: bool) -> int:
        if not self._levels or self._levels[-1].object != is_object:
            raise MalformedJson("a bracket is closed that was not open")
        self._typed(self._levels.pop(), "")
        self._over()
        return at + 1

    def _over(self) -> None:
        """A value has ended."""
        if self._levels:
            self._levels[-1].key = None
        else:
            self.complete = True

    def _string(self, at: int) -> int | None:
        level = self._levels[-1]
        place = level.next()
        is_key = level.object and level.key is None
        found = _STRING.match(self._data, at)
        if is_key:
            if found is None:
                return None
            level.key = jsonrpc.decode_str(found.group()) or ""
            if not self.kind and level.key in _KINDS:
                self.kind = level.key
            return found.end()
        if place is None and level.key != "type":
            self._over()
            if found is None:
                self._inside = True
                return at + 1
            return found.end()
        if found is None:
            return None
        if level.key == "type":
            level.type = jsonrpc.decode_str(found.group()) or ""
            self._typed(level, level.type)
        if place is not None and place.holds:
            self._replace(at, found.end(), place)
        self._over()
        return found.end()

    def _scalar(self, at: int) -> int | None:
        found = _SCALAR.match(self._data, at)
        assert found is not None
        end = found.end()
        if end == len(self._data):
            return None
        place = self._levels[-1].next()
        if place is not None and place.holds == "id":
            self._replace(at, end, place)
        self._over()
        return end

    def _replace(self, at: int, end: int, place: _Path) -> None:
        plain = self._data[at:end]
        value: bytes | None = self._id
        if place.holds == "id":
            own = self._known_as
            if not (own is None or jsonrpc.answers({"id": Raw(plain)}, own)):
                raise MalformedJson("its id is not that of the request")
            self.identified = True
        elif place.holds:
            value = outward = self._outward(place.holds, plain)
            level = self._levels[-1]
            decides = (level, place.of) if place.of and not level.type else level.outer
            if decides is not None:
                value = None
                waiting = (len(self._out) + 1, plain, outward, decides[1])
                decides[0].waiting.append(waiting)
        self._out += (self._data[self._sent : at], value)
        self._sent = end

    def _outward(self, holds: str, plain: bytes) -> bytes:
        """A URI or the id of a task as clients know it. Raises Garbled."""
        own = jsonrpc.decode_str(plain) or ""
        if holds == "uri":
            return jsonrpc.encode(self._names.outward_uri(own)) if self._names.prefix else plain
        try:
            return jsonrpc.encode(self._names.tasks.outward(own, self._principal))
        except ProtocolError as error:
            raise MalformedJson(str(error)) from None
