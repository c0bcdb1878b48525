"""Calls in the audit log of a proxy, read line by line with bounded memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import msgspec

from mcpproxy.proxy.audit.record import LOGGER
from mcpproxy.proxy.core.identity import Identity, Method

LONGEST_LINE: Final = 1024 * 1024
"""Maximum number of bytes of a line; records of a proxy are shorter."""


class RecordedPrincipal(msgspec.Struct, rename="camel", frozen=True, omit_defaults=True):
    """The caller of a record."""

    method: Method
    issuer: str = ""
    subject: str = ""
    client: str = ""
    api_key: str = ""
    service_account: str = ""
    groups: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    incomplete: bool = False
    """True if the caller has groups or scopes that the record omits."""

    def identity(self) -> Identity:
        """Return the identity, which has no claims."""
        namespace, slash, name = self.service_account.partition("/")
        return Identity(
            self.method,
            issuer=self.issuer,
            subject=self.subject,
            client=self.client,
            groups=frozenset(self.groups),
            scopes=frozenset(self.scopes),
            service_account=(namespace, name) if slash else None,
            api_key=self.api_key,
        )


class RecordedCall(msgspec.Struct, rename="camel", frozen=True):
    """One call of a client, as far as rules of access depend on it."""

    principal: RecordedPrincipal
    method: str
    decision: Literal["allowed", "denied"]
    name: str = ""
    backend: str = ""
    arguments: dict[str, Any] | None = None


class _Head(msgspec.Struct):
    """The members by which records of calls are recognized."""

    logger: str = ""
    event: str = ""
    proxy: str = ""
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A malformed line; a log with such lines may lack calls."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class NumberedCall:
    """A call and the line of its record."""

    number: int
    proxy: str
    call: RecordedCall


def read_calls(path: Path) -> Iterator[NumberedCall | BadLine]:
    """Yield the calls of all proxies in a log; skip other records. Raise OSError."""
    with path.open("rb") as file:
        for number, line in enumerate(_lines(file), 1):
            result = _read_line(number, line)
            if result is not None:
                yield result


def _lines(file: BinaryIO) -> Iterator[bytes | None]:
    """Yield the lines of a file; None for each one that is too long."""
    while line := file.readline(LONGEST_LINE + 1):
        if len(line) <= LONGEST_LINE or line.endswith(b"\n"):
            yield line
            continue
        while (rest := file.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
            pass
        yield None


def _read_line(number: int, line: bytes | None) -> NumberedCall | BadLine | None:
    if line is None:
        return BadLine(number, f"the line has more than {LONGEST_LINE} bytes")
    if not line.strip():
        return None
    try:
        head = msgspec.json.decode(line, type=_Head)
        if head.logger != LOGGER or head.event != "call":
            return None
        call = msgspec.json.decode(line, type=RecordedCall)
        if head.outcome == "limited":
            # The rules of access allowed it; how often it was made is not their concern.
            call = msgspec.structs.replace(call, decision="allowed")
        return NumberedCall(number, head.proxy, call)
    except msgspec.ValidationError as error:
        return BadLine(number, f"not an audit record: {error}")
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return BadLine(number, "not a line of JSON")
