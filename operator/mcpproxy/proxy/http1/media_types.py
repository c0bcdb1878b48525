"""Media types that the server writes and the client distinguishes."""

from typing import Final

JSON: Final = b"application/json"
EVENT_STREAM: Final = b"text/event-stream"
