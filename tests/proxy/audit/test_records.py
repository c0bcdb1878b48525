"""Records of the audit log: what they contain, and what they never do."""

import hashlib
import json
import sys
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import Raw

from mcpproxy.api.v1alpha1.audit import Audit
from mcpproxy.limits.audit import AUDITED_ARGUMENTS, AUDITED_GROUPS, AUDITED_TEXT
from mcpproxy.proxy.audit.audit_log import AuditLog
from mcpproxy.proxy.audit.record import RequestOutcome, Subject, encode_caller, encode_subject
from mcpproxy.proxy.audit.redaction import Redaction
from mcpproxy.proxy.core.identity import ANONYMOUS, Identity
from mcpproxy.proxy.protocol.jsonrpc import decode_object


def _caller(identity: Identity, info: bytes | None = None) -> bytes:
    return encode_caller(identity, info, "")


ALICE = encode_caller(
    Identity(
        "jwt",
        issuer="https://login.example.com",
        subject="alice",
        client="ide",
        groups=frozenset({"dev", "all"}),
        scopes=frozenset({"tools:read"}),
        claims={"email": "alice@example.com"},
    ),
    b'{"name":"inspector","version":"1.0"}',
    "2025-11-25",
)
TOOL = encode_subject(
    Subject("tools/call", "github_create_issue", "github", "create_issue", "ab" * 32, "writers")
)
OK = RequestOutcome("allowed", "ok", 0.0123456, 340)


class Delivered:
    """Keeps what is delivered."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def __call__(self, records: Sequence[bytes]) -> None:
        self.lines += records

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


_R = {"token": "[redacted]"}


async def _one(
    raw: bytes | None = b'{"title":"x"}',
    caller: bytes = ALICE,
    subject: bytes = TOOL,
    **policy: Any,
) -> dict[str, Any]:
    """Return the record of a call under a policy."""
    delivered = Delivered()
    log = AuditLog(Audit(**policy), "tools", delivered, lambda: 1_700_000_000.25)
    arguments = None if raw is None else Raw(raw)
    log.record("call", caller, subject, OK, arguments=arguments, trace_parent="00-aa-bb-01")
    await log.close()
    [record] = delivered.records
    return record


async def test_a_record_names_caller_component_rule_and_outcome() -> None:
    assert await _one() == {
        "time": "2023-11-14T22:13:20.250Z",
        "logger": "mcpproxy.audit",
        "proxy": "tools",
        "event": "call",
        "principal": {
            "method": "jwt",
            "issuer": "https://login.example.com",
            "subject": "alice",
            "client": "ide",
            "groups": ["all", "dev"],
            "scopes": ["tools:read"],
        },
        "client": {"name": "inspector", "version": "1.0"},
        "protocolVersion": "2025-11-25",
        "method": "tools/call",
        "name": "github_create_issue",
        "backend": "github",
        "backendName": "create_issue",
        "schemaDigest": "ab" * 32,
        "argumentsDigest": hashlib.sha256(b'{"title":"x"}').hexdigest(),
        "argumentsBytes": 13,
        "decision": "allowed",
        "outcome": "ok",
        "rule": "writers",
        "durationMs": 12.346,
        "responseBytes": 340,
        "traceparent": "00-aa-bb-01",
    }


async def test_a_caller_without_credentials_is_recorded_as_anonymous() -> None:
    record = await _one(caller=_caller(ANONYMOUS))
    assert record["principal"] == {"method": "anonymous"}
    assert "client" not in record


async def test_a_service_account_is_recorded_with_its_namespace() -> None:
    caller = _caller(Identity("serviceAccount", subject="x", service_account=("agents", "bot")))
    assert (await _one(caller=caller))["principal"]["serviceAccount"] == "agents/bot"


async def test_equal_arguments_have_equal_digests_whatever_their_order_and_spacing() -> None:
    item = await _one(b'{"a": 1, "b": [2, "\\u00e9"]}')
    other = await _one('{"b":[2,"é"],"a":1}'.encode())
    assert item["argumentsDigest"] == other["argumentsDigest"]


async def test_records_that_wait_keep_no_request_in_memory() -> None:
    log = AuditLog(Audit(), "tools", Delivered(), lambda: 0.0)
    body = b'{"arguments":{"title":"x"},"other":"' + b"x" * 1000 + b'"}'
    references = sys.getrefcount(body)
    log.record("call", ALICE, TOOL, OK, arguments=decode_object(body)["arguments"])
    assert sys.getrefcount(body) == references
    await log.close()


async def test_arguments_are_omitted_if_the_policy_says_none() -> None:
    record = await _one(arguments="None")
    assert not {"arguments", "argumentsDigest", "argumentsBytes"} & record.keys()


async def test_full_arguments_are_recorded_without_redacted_members() -> None:
    raw = b'{"user":{"Password":"p","name":"n"},"password":"q","keys":[{"token":"t","id":1}]}'
    record = await _one(raw, arguments="Full", redact=["*.password", "**.token"])
    assert record["arguments"] == {
        "user": {"Password": "[redacted]", "name": "n"},
        "password": "q",
        "keys": [{"token": "[redacted]", "id": 1}],
    }


async def test_line_breaks_between_members_do_not_end_the_record() -> None:
    record = await _one(b'{\n"a":\r\n1}', arguments="Full")
    assert record["arguments"] == {"a": 1}


async def test_arguments_beyond_the_limit_are_recorded_by_their_digest() -> None:
    raw = b'{"a":"%b"}' % (b"x" * AUDITED_ARGUMENTS.value)
    before = AUDITED_ARGUMENTS.reached
    record = await _one(raw, arguments="Full")
    assert "arguments" not in record
    assert record["argumentsDigest"] == hashlib.sha256(raw).hexdigest()
    assert record["argumentsBytes"] == len(raw)
    assert AUDITED_ARGUMENTS.reached == before + 1


async def test_names_of_callers_are_cut_and_cleaned() -> None:
    hostile = "a\x1b[2J\n" + "b" * 5000
    info = json.dumps({"name": hostile, "version": hostile}).encode()
    record = await _one(caller=_caller(Identity("jwt", subject=hostile), info))
    for text in (record["principal"]["subject"], *record["client"].values()):
        assert len(text) == AUDITED_TEXT.value
        assert not {"\x1b", "\n"} & {*text}


async def test_groups_beyond_the_limit_are_omitted() -> None:
    most, before = AUDITED_GROUPS.value, AUDITED_GROUPS.reached
    groups = frozenset(f"group-{number:04}" for number in range(most + 1))
    principal = (await _one(caller=_caller(Identity("jwt", groups=groups))))["principal"]
    assert principal["groups"] == [f"group-{number:04}" for number in range(most)]
    assert principal["incomplete"] is True
    assert AUDITED_GROUPS.reached == before + 1


async def test_malformed_client_information_is_left_out() -> None:
    assert "client" not in await _one(caller=_caller(ANONYMOUS, b"[1"))


async def test_callers_and_subjects_of_one_record_do_not_change_the_next() -> None:
    delivered = Delivered()
    log = AuditLog(Audit(), "tools", delivered, lambda: 0.0)
    bob = _caller(Identity("jwt", subject="bob"))
    other = encode_subject(Subject("prompts/get", "greet", "docs", "greet"))
    for caller, subject in ((ALICE, TOOL), (bob, other), (ALICE, other), (bob, TOOL)):
        log.record("call", caller, subject, OK)
    await log.close()
    assert [(r["principal"]["subject"], r["name"]) for r in delivered.records] == [
        ("alice", "github_create_issue"),
        ("bob", "greet"),
        ("alice", "greet"),
        ("bob", "github_create_issue"),
    ]


async def test_a_policy_that_refuses_never_drops_the_record_of_a_call() -> None:
    release, delivered = threading.Event(), Delivered()

    def deliver(records: Sequence[bytes]) -> None:
        release.wait(10)
        delivered(records)

    log = AuditLog(Audit(on_full="Refuse"), "tools", deliver, lambda: 0.0, capacity=800, pause=0)
    nobody = _caller(ANONYMOUS)
    assert not log.is_refusing
    for _ in range(3):
        log.record("call", ALICE, TOOL, OK)
        log.record("authentication", nobody, b"", RequestOutcome("denied", "x"))
    assert log.is_refusing
    release.set()
    await log.close()
    assert [r["event"] for r in delivered.records] == ["call", "authentication", "call", "call"]
    assert log.dropped == 2
    assert not log.is_refusing


@pytest.mark.parametrize(
    ("path", "arguments", "expected"),
    [
        ("token", {"token": 1, "a": {"token": 2}}, {"token": "[redacted]", "a": {"token": 2}}),
        ("**.token", {"token": 1, "a": [{"token": 2}]}, {"token": "[redacted]", "a": [_R]}),
        ("*.token", {"token": 1, "a": [{"token": 2}]}, {"token": 1, "a": [{"token": 2}]}),
        ("a.*.token", {"a": [{"token": 2}]}, {"a": [_R]}),
        ("a", {"A": [1, 2]}, {"A": "[redacted]"}),
        ("*", {"a": 1}, {"a": "[redacted]"}),
        ("a.**.token", {"a": {"token": 1, "c": {"token": 2}}}, {"a": {**_R, "c": _R}}),
        ("a.b", {"a": 5}, {"a": 5}),
    ],
)
def test_a_path_redacts_the_members_that_it_names(path: str, arguments: Any, expected: Any) -> None:
    assert Redaction([path]).apply(arguments) == expected
