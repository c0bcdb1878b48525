"""BackendCredentials of the proxy itself, which all callers share."""

from typing import Final

from mcpproxy.proxy.core.errors import MissingReference
from mcpproxy.proxy.core.exchange import BackendCredentials, ClientIdentity
from mcpproxy.proxy.upstream.credentials.access_tokens import Line, bearer_line
from mcpproxy.proxy.upstream.credentials.token_slot import TokenSlot
from mcpproxy.proxy.upstream.mounted.values import MountedToken, MountedValues, ValueGroup

NO_TOKEN: Final = "the file of the ServiceAccount's token is unusable: {}"


class OwnToken:
    """A token of the proxy, which all callers share."""

    by_caller = False
    latest = None

    def __init__(self, slot: TokenSlot) -> None:
        self._slot = slot
        self.header, self.obtain, self.refused = slot.header, slot.obtain, slot.refused
        self.close = slot.close

    def of(self, client: ClientIdentity) -> BackendCredentials:
        """Return the same credentials for every client."""
        return self


class ServiceAccountCredentials:
    """The mounted token of the pods' ServiceAccount, which the kubelet renews."""

    by_caller = False
    latest = None

    def __init__(self, values: MountedValues, token: MountedToken) -> None:
        self._values = ValueGroup(values, [token])
        self._text = ""
        self._line: Line | None = None

    def of(self, client: ClientIdentity) -> BackendCredentials:
        """Return the same credentials for every client."""
        return self

    def header(self) -> Line | None:
        """Return the header field; None if the file is unusable."""
        try:
            return self._read(self._values.cached()[0])
        except MissingReference:
            return None

    async def obtain(self) -> Line:
        """Return the header field. Raise MissingReference."""
        return self._read(self._values.cached()[0])

    def _read(self, text: str) -> Line:
        if self._line is None or text is not self._text:
            try:
                self._line = bearer_line(text)
            except ValueError as error:
                self._line = None
                raise MissingReference(NO_TOKEN.format(error)).unsent() from None
            self._text = text
        return self._line

    def refused(self, line: Line) -> bool:
        """Read the file again. Return True if it has another token."""
        try:
            return self._read(self._values.current()[0]) != line
        except MissingReference:
            return False

    async def close(self) -> None:
        """Do nothing: nothing runs in the background."""
