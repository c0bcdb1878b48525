"""Messages about watched backends, over connections that prove the sealing key."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from mcpproxy.limits.instances import WATCH_MESSAGE
from mcpproxy.proxy.protocol.kinds import KINDS
from mcpproxy.proxy.upstream.monitor.shared.watch_share import ListState

MOST_BACKENDS: Final = 64
"""Backends in one message; spec.backends has no more."""

_Address = Annotated[str, Meta(max_length=300)]
_Text = Annotated[str, Meta(max_length=128)]
_Lists = Annotated[list[ListState], Meta(min_length=len(KINDS), max_length=len(KINDS))]
Watched = Annotated[dict[_Text, _Lists], Meta(max_length=MOST_BACKENDS)]
"""The backends that an instance watches, and the state of their lists in the order of KINDS."""


class WatchMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Statement of the sender about the backends that it watches."""

    sender: _Address
    group: _Text
    """Digest of the configuration; instances of different groups share nothing."""
    process: _Text
    """Name of the sender's process, which differs after a restart."""
    watched: Watched = {}
    asks: bool = False
    """True if the sender wants to know what the receiver watches."""
    leaves: bool = False
    """True if the sender ends."""


class WatchAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Answer to a message."""

    group: _Text
    process: _Text
    watched: Watched = {}
    others: Annotated[list[_Address], Meta(max_length=512)] = []
    """Instances that the receiver knows."""


_MESSAGES: Final = msgspec.json.Decoder(WatchMessage)
_ANSWERS: Final = msgspec.json.Decoder(WatchAnswer)


def read_message(body: bytes) -> WatchMessage:
    """Return the message of an instance. Raise ValueError if it is too large or malformed."""
    if len(body) > WATCH_MESSAGE.value:
        WATCH_MESSAGE.record()
        raise ValueError(f"a message has {len(body)} bytes; at most {WATCH_MESSAGE.value} are read")
    return _MESSAGES.decode(body)


def read_answer(body: bytes) -> WatchAnswer:
    """Return the answer of an instance. Raise ValueError for a malformed one."""
    return _ANSWERS.decode(body)
