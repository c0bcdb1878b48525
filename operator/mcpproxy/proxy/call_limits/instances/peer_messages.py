"""Messages with which instances count calls together, over connections that prove the sealing
key. Times in messages are ages in seconds, because the clocks of instances differ."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from mcpproxy.proxy.call_limits.store import CountedCalls, CountSnapshot, LeaseRequest, SubjectKey
from mcpproxy.proxy.call_limits.window import MAX_HISTORY, Rate
from mcpproxy.proxy.call_limits.window_table import MAX_COUNTERS

MAX_SUBJECTS: Final = 64
"""Subjects in one message."""

_Text = Annotated[str, Meta(max_length=512)]
_Address = Annotated[str, Meta(max_length=300)]
_Calls = Annotated[int, Meta(ge=0, le=1_000_000)]
_Some = Annotated[int, Meta(ge=1, le=1_000_000)]
_Seconds = Annotated[float, Meta(ge=0.0, le=86_400.0)]
_Period = Annotated[float, Meta(ge=0.5, le=86_400.0)]
_History = Annotated[list[tuple[_Seconds, _Calls]], Meta(max_length=MAX_HISTORY)]


class CountedMessage(msgspec.Struct, frozen=True):
    """Calls of one subject that one process has counted, by age."""

    counter: _Text
    sequence: Annotated[int, Meta(ge=0)]
    history: _History


SnapshotMessage = Annotated[list[CountedMessage], Meta(max_length=MAX_COUNTERS + 1)]


class SubjectMessage(msgspec.Struct, frozen=True):
    """A rule and a subject."""

    rule: _Text
    subject: _Text
    calls: _Some
    period: _Period
    burst: _Calls

    @classmethod
    def of(cls, key: SubjectKey, rate: Rate) -> "SubjectMessage":
        """Return the message for a subject."""
        return cls(key.rule, key.subject, rate.calls, rate.period, rate.burst)

    @property
    def key(self) -> SubjectKey:
        """The rule and the subject."""
        return SubjectKey(self.rule, self.subject)

    @property
    def rate(self) -> Rate:
        """The number of calls that are admitted."""
        return Rate(self.calls, self.period, min(self.burst, self.calls))


class Greeting(msgspec.Struct, tag="greet", frozen=True):
    """The sender runs."""

    sender: _Address


class Leaving(msgspec.Struct, tag="leave", frozen=True):
    """The sender ends."""

    sender: _Address


class LeaseMessage(msgspec.Struct, tag="lease", frozen=True):
    """The sender wants calls."""

    sender: _Address
    subject: SubjectMessage
    wanted: _Some
    snapshot: SnapshotMessage


class Withdrawal(msgspec.Struct, tag="withdraw", frozen=True):
    """Calls of a lease did not take place."""

    sender: _Address
    subject: SubjectMessage
    count: _Some
    counter: _Text
    booked: float


class Handover(msgspec.Struct, tag="tell", frozen=True):
    """Calls that the sender has counted."""

    sender: _Address
    subjects: Annotated[list[tuple[SubjectMessage, SnapshotMessage]], Meta(max_length=MAX_SUBJECTS)]


PeerMessage = Greeting | Leaving | LeaseMessage | Withdrawal | Handover


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Answer to a message."""

    others: Annotated[list[_Address], Meta(max_length=512)] = []
    """Instances that the receiver of a greeting knows."""
    owner: _Address = ""
    """The instance that counts the subject, if it is not the receiver."""
    count: _Calls = 0
    wait: _Seconds = 0.0
    booked: float = 0.0
    counter: _Text = ""
    """The process that counts the subject; empty if no lease was asked for."""
    snapshot: SnapshotMessage = []


DECODER: Final = msgspec.json.Decoder(PeerMessage)
ANSWERS: Final = msgspec.json.Decoder(Answer)


def encode_snapshot(snapshot: CountSnapshot, now: float) -> list[CountedMessage]:
    """Return the message for a snapshot; its times are of the clock that `now` is of."""
    return [
        CountedMessage(
            counted.counter,
            counted.sequence,
            [(_age(at, now), count) for at, count in counted.history],
        )
        for counted in snapshot
    ]


def decode_snapshot(message: list[CountedMessage], now: float) -> CountSnapshot:
    """Return the snapshot in a message, in the time of this instance."""
    return tuple(
        CountedCalls(
            counted.counter,
            counted.sequence,
            tuple(sorted((now - age, count) for age, count in counted.history if count)),
        )
        for counted in message
    )


def lease_message(sender: str, request: LeaseRequest, now: float) -> LeaseMessage:
    """Return the message for a request."""
    subject = SubjectMessage.of(request.key, request.rate)
    return LeaseMessage(sender, subject, request.wanted, encode_snapshot(request.snapshot, now))


def _age(at: float, now: float) -> float:
    return round(min(max(now - at, 0.0), 86_400.0), 4)
