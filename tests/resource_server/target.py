"""The server under test: requests to it with tokens of the test issuers, and verdicts."""

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final
from urllib.parse import urlsplit

from tests.resource_server import messages
from tests.resource_server.check import Failed, Skipped
from tests.resource_server.http_client import Address, HeaderLine, NoResponse, Response, Stream
from tests.resource_server.issuer import Issuer
from tests.resource_server.issuer_server import IssuerServer
from tests.resource_server.messages import LEGACY, MODERN, Message

WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"
_PARAMETER: Final = re.compile(r'([A-Za-z0-9_-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s,"]+)')


@dataclass(frozen=True)
class Options:
    """Facts about the server that the kit cannot find out."""

    url: str
    """The address at which it is reached."""
    public_url: str
    """Its resource identifier."""
    leeway: float = 60.0
    """Seconds of clock skew that it tolerates."""
    refetch_seconds: float = 30.0
    """Seconds that it leaves between two requests for a key set because of unknown keys."""
    revocation_seconds: float = 60.0
    """Seconds after which it uses no key any more that its issuer has removed."""
    timeout: float = 30.0
    tool: str = ""
    """A tool that may be called without arguments, any number of times."""
    scoped_tool: str = ""
    """A tool whose calls require `scoped_tool_scopes`."""
    scoped_tool_scopes: tuple[str, ...] = ()
    token_bytes: int = 0
    """Size of the largest token that it reads; 0 if it is unknown."""
    browser_origin: str = ""
    """The origin of pages whose requests it admits, other than its own."""
    main_issuer_only: bool = False
    """The server trusts the issuer `main` alone."""
    slow: bool = False
    """Also run the checks that wait for more than half a minute."""


def challenge_parameters(header: str) -> dict[str, str]:
    """Return the parameters of a Bearer challenge, unquoted; raise Failed for another scheme."""
    scheme, _, rest = header.strip().partition(" ")
    if scheme.lower() != "bearer":
        raise Failed(f"WWW-Authenticate is {header!r}, not a challenge of the scheme Bearer")
    left = _PARAMETER.sub("", rest).replace(",", "").strip()
    if left:
        raise Failed(f"WWW-Authenticate has {left!r} beside its parameters: {header!r}")
    values = {name.lower(): value for name, value in _PARAMETER.findall(rest)}
    return {
        name: re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
        for name, value in values.items()
    }


@dataclass
class Target:
    """The server under test."""

    options: Options
    server: IssuerServer
    _control: dict[str, Response] = field(default_factory=dict)

    @property
    def main(self) -> Issuer:
        """The issuer of which the server is always configured to accept tokens."""
        return self.server.issuers["main"]

    def issuer(self, name: str) -> Issuer:
        """Return the issuer of one scenario. Raise Skipped if the server does not trust it."""
        if self.options.main_issuer_only:
            raise Skipped(f"the server does not trust the issuer {name}")
        return self.server.issuers[name]

    @cached_property
    def address(self) -> Address:
        """The address of the server."""
        authority = urlsplit(self.options.public_url).netloc
        return Address(self.options.url, authority, self.options.timeout)

    @cached_property
    def eras(self) -> tuple[str, ...]:
        """The protocol eras in which it serves a good token."""
        eras = tuple(era for era in messages.ERAS if self._serves(era))
        if not eras:
            seen = {era: r.status for era, r in self._control.items()}
            raise Failed(f"a good token is not served in any protocol era: {seen}")
        return eras

    def _serves(self, era: str) -> bool:
        response = self.send(messages.build(era, messages.PROBES[era]), self.main.token())
        self._control[era] = response
        content = response.json()
        return response.status == 200 and isinstance(content, dict) and "result" in content

    def require(self, era: str) -> None:
        """Raise Skipped unless the server speaks this era."""
        if era not in self.eras:
            raise Skipped(f"the server does not speak {era}")

    @property
    def probe(self) -> Message:
        """The first request of a client, in the newest era that the server speaks."""
        era = self.eras[-1]
        return messages.build(era, messages.PROBES[era])

    def send(
        self,
        message: Message | None = None,
        token: str | bytes | None = None,
        headers: Iterable[HeaderLine] = (),
        path: str = "",
        method: str = "POST",
    ) -> Response:
        """Send a message with a token, if any, and end the session that it opens.

        Raise NoResponse.
        """
        message = message or self.probe
        lines = [*message.headers.items(), *bearer(token), *headers]
        response = self.address.request(method, path or self.address.path, lines, message.body)
        session = response.first("mcp-session-id")
        if session and response.status == 200 and b'"initialize"' in message.body:
            self.end_session(session, token)
        return response

    def end_session(self, session: str, token: str | bytes | None) -> None:
        """Delete a session of the legacy era."""
        lines = [("Mcp-Session-Id", session), ("MCP-Protocol-Version", LEGACY), *bearer(token)]
        self.address.request("DELETE", self.address.path, lines)

    @contextmanager
    def session(self, token: str) -> Iterator[str]:
        """Open a session of the legacy era, yield its id and end it. Raise Skipped or Failed."""
        self.require(LEGACY)
        message = messages.build(LEGACY, "initialize")
        lines = [*message.headers.items(), *bearer(token)]
        response = self.address.request("POST", self.address.path, lines, message.body)
        session = response.first("mcp-session-id")
        if response.status != 200:
            raise Failed(f"initialize with a good token: {describe(response)}")
        if not session:
            raise Skipped("the server keeps no sessions")
        ready = messages.build(LEGACY, "notifications/initialized", None, None, session)
        self.send(ready, token)
        try:
            yield session
        finally:
            self.end_session(session, token)

    @contextmanager
    def open_stream(self, era: str, token: str, session: str = "") -> Iterator[Stream]:
        """Open the stream on which a server of the era sends notifications."""
        if era == LEGACY:
            lines: list[HeaderLine] = [("Accept", "text/event-stream"), *bearer(token)]
            lines += [("MCP-Protocol-Version", LEGACY), ("Mcp-Session-Id", session)]
            with self.address.stream("GET", self.address.path, lines) as stream:
                yield stream
        else:
            message = messages.build(MODERN, "subscriptions/listen")
            lines = [*message.headers.items(), *bearer(token)]
            with self.address.stream("POST", self.address.path, lines, message.body) as stream:
                yield stream

    def expect_accepted(self, token: str | bytes, what: str) -> None:
        """Raise Failed unless the first request of a client is served with this token."""
        response = self.send(token=token)
        if response.status != 200:
            raise Failed(f"{what} is not accepted: {describe(response)}")

    def expect_refused(self, token: str | bytes, what: str) -> Response:
        """Raise Failed unless the token is refused as RFC 6750 section 3.1 says."""
        response = self.send(token=token)
        expect_unauthorized(response, what)
        return response

    def expect_all_refused(self, tokens: Mapping[str, str]) -> None:
        """Raise Failed if one of the tokens, by their descriptions, is not refused."""
        problems = []
        for what, token in tokens.items():
            try:
                self.expect_refused(token, what)
            except (Failed, NoResponse) as problem:
                problems.append(str(problem))
        if problems:
            raise Failed("; ".join(problems))

    def fetch_metadata(
        self, path: str, headers: Iterable[HeaderLine] = (), method: str = "GET"
    ) -> Response:
        """Request a path of the server's origin without a token."""
        return self.address.request(method, path, [("Accept", "application/json"), *headers])

    @property
    def metadata_path(self) -> str:
        """The path of the metadata of RFC 9728 at the public URL."""
        return WELL_KNOWN + urlsplit(self.options.public_url).path.rstrip("/")

    def challenge(self, response: Response) -> dict[str, str]:
        """Return the parameters of the challenge of a 401 or 403. Raise Failed without one."""
        lines = response.all("www-authenticate")
        if not lines:
            raise Failed(f"no WWW-Authenticate: {describe(response)}")
        return challenge_parameters(lines[0])

    def poll_accepted(self, token: str, seconds: float) -> float | None:
        """Send a token once a second until it is accepted; return the seconds, or None."""
        began = time.monotonic()
        while time.monotonic() - began <= seconds:
            if self.send(token=token).status == 200:
                return time.monotonic() - began
            time.sleep(1.0)
        return None


def bearer(token: str | bytes | None) -> list[HeaderLine]:
    """Return the header line that carries a token, or none."""
    if token is None:
        return []
    return [("Authorization", b"Bearer " + (token if isinstance(token, bytes) else token.encode()))]


def describe(response: Response) -> str:
    """Return the status and the beginning of the body."""
    return f"status {response.status} {response.text[:160]!r}"


def expect_unauthorized(response: Response, what: str, statuses: tuple[int, ...] = (401,)) -> None:
    """Raise Failed unless the response refuses the request with one of the statuses.

    A 401 has to challenge with the scheme Bearer.
    """
    if response.status not in statuses:
        raise Failed(f"{what}: {describe(response)}")
    if response.status == 401:
        if not response.all("www-authenticate"):
            raise Failed(f"{what}: 401 without WWW-Authenticate")
        challenge_parameters(response.first("www-authenticate"))


def expect_object(response: Response, what: str) -> dict[str, Any]:
    """Return the JSON object of a response with status 200. Raise Failed."""
    content = response.json()
    if response.status != 200 or not isinstance(content, dict):
        raise Failed(f"{what}: {describe(response)}")
    return content
