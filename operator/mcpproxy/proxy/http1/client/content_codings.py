"""Content codings of responses: gzip and deflate are decoded although none is requested.

RFC 9110 lets a server use a coding that the client did not request, and some servers do. The size
of the output is bounded: for each step, and as a whole in proportion to the input.
"""

import asyncio
import zlib
from typing import Final

from mcpproxy.limits.backends import DECODED_RATIO
from mcpproxy.proxy.http1.client.connection import ClientResponse
from mcpproxy.proxy.http1.errors import InvalidResponse

STEP: Final = 64 * 1024
"""Bytes of output of one step; other tasks get a turn between two steps."""
FREE: Final = 1024 * 1024
"""Bytes of output that need no proportionate input, because short texts may compress well."""
_QUOTED: Final = 60
"""Bytes of an unknown coding that an error quotes."""
_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB: Final = zlib.MAX_WBITS
_RAW: Final = -zlib.MAX_WBITS
_MEMBER: Final = b"\x1f\x8b"
"""The first bytes of a gzip member; a body may consist of several (RFC 1952)."""


def decode_response(response: ClientResponse) -> ClientResponse:
    """Return the response with its content coding removed. Raises InvalidResponse."""
    named = response.headers.get(b"content-encoding")
    if named is None:
        return response
    codings = [coding for coding in named.lower().replace(b" ", b"").split(b",") if coding]
    codings = [coding for coding in codings if coding != b"identity"]
    if not codings:
        return response
    if codings in ([b"gzip"], [b"x-gzip"], [b"deflate"]):
        return DecodedResponse(response, is_gzip=codings != [b"deflate"])
    response.close()
    quoted = ascii(named[:_QUOTED].decode("latin-1"))
    raise InvalidResponse(
        f"the response has the Content-Encoding {quoted}, although the request accepts only"
        " identity"
    )


class _Decoder:
    """Decoder of one stream, in steps of bounded output."""

    def __init__(self, *, is_gzip: bool) -> None:
        self._is_gzip = is_gzip
        self._stream = zlib.decompressobj(_GZIP) if is_gzip else None
        self._input = b""
        self._more = False
        """True if there may be output without further input."""
        self._over = False
        self._received = self._produced = 0

    @property
    def pending(self) -> bool:
        """True if there may be output without further input."""
        return bool(self._input) or self._more

    def feed(self, content: bytes) -> None:
        """Add a part of the body; bytes after the end of the coding are ignored."""
        if not self._over:
            self._input = self._input + content if self._input else content
            self._received += len(content)

    def step(self) -> bytes:
        """Return the next decoded part; empty if more input is needed. Raises InvalidResponse."""
        output = b""
        while not output and self.pending:
            try:
                output = self._decode()
            except zlib.error:
                raise InvalidResponse("the body does not match its Content-Encoding") from None
        self._produced += len(output)
        if self._produced > FREE + DECODED_RATIO.value * self._received:
            DECODED_RATIO.record()
            most = DECODED_RATIO.value
            raise InvalidResponse(
                f"the decoded body is more than {most} times as large as the encoded one"
            )
        return output

    def _decode(self) -> bytes:
        if self._stream is None:
            # "deflate" is zlib (RFC 9110, 8.4.1.2), but many senders leave its header out.
            has_header = self._input[0] & 0x0F == zlib.DEFLATED
            self._stream = zlib.decompressobj(_ZLIB if has_header else _RAW)
        output = self._stream.decompress(self._input, STEP)
        self._input = self._stream.unconsumed_tail
        self._more = len(output) == STEP
        if self._stream.eof:
            self._input, self._more = self._stream.unused_data, False
            if self._is_gzip and self._input.startswith(_MEMBER):
                self._stream = zlib.decompressobj(_GZIP)
            else:
                self._input, self._over = b"", True
        return output


class DecodedResponse(ClientResponse):
    """Response whose body is decoded while it is read."""

    def __init__(self, response: ClientResponse, *, is_gzip: bool) -> None:
        super().__init__(response._connection)
        self.headers = response.headers
        self.media_type = response.media_type
        self.status = response.status
        self._coded = response
        self._decoder = _Decoder(is_gzip=is_gzip)

    @property
    def waiting(self) -> bool:
        return bool(self._chunks) or self._decoder.pending or self._coded.waiting

    async def next_chunk(self) -> bytes:
        while not (self._chunks or self.complete):
            try:
                output = self._decoder.step()
            except InvalidResponse:
                self.close()
                raise
            if output:
                await asyncio.sleep(0)
                return output
            received = await self._coded.next_chunk()
            self.complete = not received
            self._decoder.feed(received)
        return self._chunks.popleft() if self._chunks else b""

    def close(self) -> None:
        self._coded.close()

    def leave(self) -> None:
        self._chunks.clear()
        self._coded.leave()
