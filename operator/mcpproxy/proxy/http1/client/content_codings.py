"""Content codings of responses: none is requested, and gzip and deflate are decoded all the same.

RFC 9110 lets a server use a coding that the client did not ask for, and servers in the field do.
What is decoded is bounded: at each step in size, and in all in proportion to what was received.
"""

import asyncio
import zlib
from typing import Final

from mcpproxy.limits.backends import DECODED_RATIO
from mcpproxy.proxy.core.errors import ProtocolError
from mcpproxy.proxy.http1.client.response import ClientResponse
from mcpproxy.proxy.protocol.tolerance import quote

STEP: Final = 64 * 1024
"""Bytes that are decoded at a time; other tasks get a turn between."""
FREE: Final = 1024 * 1024
"""Bytes that are decoded whatever was received: short texts may repeat themselves often."""
_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB: Final = zlib.MAX_WBITS
_RAW: Final = -zlib.MAX_WBITS
_MEMBER: Final = b"\x1f\x8b"
"""The first bytes of a gzip member; a body may consist of several (RFC 1952)."""


def decode_response(response: ClientResponse) -> ClientResponse:
    """Return a response that is read without its content coding. Raises ProtocolError."""
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
    raise ProtocolError(
        f"its answer has the Content-Encoding {quote(named)}, though identity was wanted"
    )


class _Decoder:
    """Decodes a stream step by step."""

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
        """Whether there may be content without further input."""
        return bool(self._input) or self._more

    def feed(self, content: bytes) -> None:
        """Add a part of the body. What comes behind the end of the coding is ignored."""
        if not self._over:
            self._input = self._input + content if self._input else content
            self._received += len(content)

    def step(self) -> bytes:
        """Return the next decoded part; empty if more input is needed. Raises ProtocolError."""
        output = b""
        while not output and self.pending:
            try:
                output = self._decode()
            except zlib.error:
                raise ProtocolError("its body is not what its Content-Encoding says") from None
        self._produced += len(output)
        if self._produced > FREE + DECODED_RATIO.value * self._received:
            DECODED_RATIO.record()
            most = DECODED_RATIO.value
            raise ProtocolError(
                f"its body grows to more than {most} times its size when it is decoded"
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
    """The content of a response that has a content coding."""

    def __init__(self, response: ClientResponse, *, is_gzip: bool) -> None:
        super().__init__(response._connection)
        self.headers = response.headers
        self.status = response.status
        self._coded = response
        self._decoder = _Decoder(is_gzip=is_gzip)

    @property
    def waiting(self) -> bool:
        return bool(self._chunks) or self._decoder.pending or self._coded.waiting

    async def next_chunk(self) -> bytes:
        """Raises ProtocolError, too."""
        while not (self._chunks or self.complete):
            try:
                output = self._decoder.step()
            except ProtocolError:
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
