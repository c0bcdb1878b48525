"""Media types that the server writes and the client distinguishes."""

import functools
from typing import Final

JSON: Final = b"application/json"
EVENT_STREAM: Final = b"text/event-stream"


@functools.lru_cache(maxsize=64)
def media_type_of(content_type: bytes) -> bytes:
    """Return a Content-Type without its parameters, in lower case."""
    return content_type.split(b";")[0].strip().lower()
