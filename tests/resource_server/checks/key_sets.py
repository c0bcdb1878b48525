"""Discovery and key sets: rotation, load on the issuer, and faults of the issuer."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.resource_server.check import Failed, Severity, Skipped, check
from tests.resource_server.http_client import Response
from tests.resource_server.issuer import Issuer, Mode
from tests.resource_server.keys import SigningKey
from tests.resource_server.target import Target, describe

FLOOD = 40
AT_ONCE = 8
KEY_SET_SECONDS = 0.7
"""Time of a request for a key set in which other clients ask for the same keys."""
SETTLE_SECONDS = 5.0
"""Time in which a server may take up a key set beyond its own interval."""
REFUSED_WHILE_DOWN = (401, 503)


def _expect_not_served(response: Response, what: str) -> None:
    if response.status not in REFUSED_WHILE_DOWN:
        raise Failed(f"{what}: {describe(response)}, expected 401 or 503")


def _expect_others_served(target: Target, what: str) -> None:
    began = time.monotonic()
    target.expect_accepted(target.main.token(), f"a token of a sound issuer while {what}")
    seconds = time.monotonic() - began
    if seconds > 2.0:
        raise Failed(f"a token of a sound issuer took {seconds:.1f} s while {what}")


@check("discovery-oauth", "RFC 8414 section 3")
def discovery_oauth(target: Target) -> None:
    """Keys are found by the metadata of RFC 8414 alone."""
    target.expect_accepted(target.issuer("flooded").token(), "a token of an issuer with RFC 8414")


@check("discovery-openid", "OpenID Connect Discovery section 4")
def discovery_openid(target: Target) -> None:
    """Keys are found by the metadata of OpenID Connect Discovery alone."""
    target.expect_accepted(target.issuer("other").token(), "a token of an OpenID Connect issuer")


@check("discovery-other-issuer", "RFC 8414 section 3.3")
def discovery_names_other_issuer(target: Target) -> None:
    """Metadata that names another issuer is not used."""
    issuer = target.issuer("mislabeled")
    _expect_not_served(target.send(token=issuer.token()), "a token of a mislabeled issuer")
    claimed = issuer.token(iss=target.main.url)
    target.expect_refused(claimed, "its token in the name of the issuer that it claims to be")


@check("keys-mixed-set", "RFC 7517 section 5", Severity.SHOULD)
def mixed_key_set(target: Target) -> None:
    """Keys that the server does not understand do not spoil the other keys of a set."""
    target.expect_accepted(target.issuer("mixed").token(), "a token of the one good key in a set")


@check("keys-cached", "RFC 8725 section 3.10", Severity.SHOULD)
def cached(target: Target) -> None:
    """Known keys are not requested again for each token."""
    target.expect_accepted(target.main.token(), "the good token")
    began = time.monotonic()
    for number in range(FLOOD):
        target.expect_accepted(target.main.token(sub=f"user-{number}"), f"token {number}")
    _expect_few_requests(target, target.main, began, 1, f"{FLOOD} tokens with known keys")


def _expect_few_requests(
    target: Target, issuer: Issuer, began: float, most: int, what: str
) -> None:
    seconds = time.monotonic() - began
    # Beside these, a server may renew its key sets from time to time.
    allowed = most + 1 + int(seconds / target.options.refetch_seconds)
    requests = issuer.key_set_requests(began)
    if requests > allowed:
        raise Failed(f"{what} in {seconds:.1f} s caused {requests} requests for the key set")


@check("keys-concurrent", "RFC 8725 section 3.10", Severity.SHOULD)
def concurrent(target: Target) -> None:
    """Many first tokens of an issuer at once cause one request for its key set."""
    issuer = target.issuer("concurrent")
    issuer.delay = KEY_SET_SECONDS
    tokens = [issuer.token(sub=f"user-{number}") for number in range(AT_ONCE)]
    began = time.monotonic()
    with ThreadPoolExecutor(len(tokens)) as pool:
        responses = list(pool.map(lambda token: target.send(token=token), tokens))
    for response in responses:
        if response.status != 200:
            raise Failed(f"one of the first tokens of an issuer: {describe(response)}")
    _expect_few_requests(target, issuer, began, 1, f"{len(tokens)} tokens at once")


@check("keys-unknown-kid-flood", "RFC 8725 section 3.10")
def unknown_kid_flood(target: Target) -> None:
    """A flood of unknown key identifiers causes at most one request per interval."""
    issuer = target.issuer("flooded")
    target.expect_accepted(issuer.token(), "the good token of that issuer")
    stranger = SigningKey.generate("ES256", "stranger")
    began = time.monotonic()
    for number in range(FLOOD):
        token = issuer.token(stranger, {"kid": f"unknown-{number}"})
        target.expect_refused(token, f"unknown kid {number}")
    _expect_few_requests(target, issuer, began, 1, f"{FLOOD} unknown kids")
    target.expect_accepted(issuer.token(), "the good token after the flood")


@check("keys-bad-signature-flood", "RFC 8725 section 3.10", Severity.SHOULD)
def bad_signature_flood(target: Target) -> None:
    """Bad signatures under known key identifiers cause no request for the key set."""
    target.expect_accepted(target.main.token(), "the good token")
    stranger = SigningKey.generate("ES256", target.main.keys[1].kid)
    began = time.monotonic()
    for number in range(FLOOD // 2):
        target.expect_refused(target.main.token(stranger), f"bad signature {number}")
    _expect_few_requests(target, target.main, began, 1, "bad signatures")


def _poll(target: Target, make: Callable[[], str], status: int, seconds: float) -> bool:
    """Send tokens twice a second until the status comes; False if it does not in time."""
    deadline = time.monotonic() + seconds
    while target.send(token=make()).status != status:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


@check("keys-rotated", "RFC 7517 section 4.5; OpenID Connect Core section 10.1.1")
def rotated(target: Target) -> None:
    """A new key is taken up after one request for the key set, the remaining key goes on."""
    issuer = target.issuer("rotating")
    old = issuer.keys[0]
    target.expect_accepted(issuer.token(old), "a token of the old key")
    new = SigningKey.generate("ES256", f"rotating-{len(issuer.keys) + 1}-{time.monotonic_ns()}")
    issuer.keys.insert(0, new)
    issuer.delay = KEY_SET_SECONDS
    began = time.monotonic()
    wait = target.options.refetch_seconds + SETTLE_SECONDS
    # Many clients get tokens of the new key at once, and all of them cause one request.
    with ThreadPoolExecutor(AT_ONCE) as pool:
        polls = [
            pool.submit(_poll, target, lambda: issuer.token(new), 200, wait) for _ in range(AT_ONCE)
        ]
        if not all(poll.result() for poll in polls):
            raise Failed(f"a new key was not taken up within {wait:.0f} s")
    _expect_few_requests(target, issuer, began, 1, "a new key")
    target.expect_accepted(issuer.token(old), "a token of the old key, which is still published")


@check("keys-removed", "OpenID Connect Core section 10.1.1", Severity.SHOULD)
def removed(target: Target) -> None:
    """A key that is missing in a newer key set verifies no more tokens, not even known ones."""
    issuer = target.issuer("removing")
    old = issuer.keys[-1]
    known = issuer.token(old)
    target.expect_accepted(known, "a token of the old key")
    new = SigningKey.generate("ES256", f"removing-{time.monotonic_ns()}")
    issuer.keys[:] = [new]
    wait = target.options.refetch_seconds + SETTLE_SECONDS
    if not _poll(target, lambda: issuer.token(new), 200, wait):
        raise Failed(f"a new key was not taken up within {wait:.0f} s")
    target.expect_refused(issuer.token(old), "a new token of the key that was removed")
    target.expect_refused(known, "a token that was accepted before its key was removed")


@check("keys-revoked", "OpenID Connect Core section 10.1.1", Severity.SHOULD)
def revoked(target: Target) -> None:
    """A removed key is dropped within a minute although no new key is ever seen."""
    if not target.options.slow:
        raise Skipped("takes up to a minute; asked for with --slow")
    issuer = target.issuer("concurrent")
    token, key = issuer.token(), issuer.keys[0]
    target.expect_accepted(token, "a token before the key is removed")
    issuer.keys[:] = [SigningKey.generate("ES256", "concurrent-2")]
    wait = target.options.revocation_seconds + SETTLE_SECONDS
    if not _poll(target, lambda: issuer.token(key), 401, wait):
        raise Failed(f"a removed key still verifies tokens after {wait:.0f} s")
    target.expect_refused(token, "a token that was accepted before the key was removed")


@check("issuer-down-cold", "RFC 9110 section 15.6.4")
def down_cold(target: Target) -> None:
    """While no keys were ever fetched, tokens get 401 or 503; later they are accepted."""
    issuer = target.issuer("cold")
    issuer.mode = Mode.DOWN
    _expect_not_served(target.send(token=issuer.token()), "a token of an issuer that is down")
    _expect_others_served(target, "another issuer is down")
    issuer.mode = Mode.UP
    wait = target.options.refetch_seconds + SETTLE_SECONDS
    if not _poll(target, issuer.token, 200, wait):
        raise Failed(f"{wait:.0f} s after its return, the issuer is still refused")


@check("issuer-down-warm", "RFC 8725 section 3.10")
def down_warm(target: Target) -> None:
    """Tokens of known keys, also new tokens, are accepted while the issuer is down."""
    issuer = target.issuer("warm")
    target.expect_accepted(issuer.token(), "a token before the issuer goes down")
    issuer.mode = Mode.DOWN
    try:
        stranger = SigningKey.generate("ES256", "unknown")
        deadline = time.monotonic() + target.options.refetch_seconds + SETTLE_SECONDS
        requests = len(issuer.requests)
        # Only a fetch that fails can spoil what is known; some servers never try.
        while len(issuer.requests) == requests and time.monotonic() < deadline:
            unknown = target.send(token=issuer.token(stranger))
            _expect_not_served(unknown, "an unknown kid while the issuer is down")
            time.sleep(0.5)
        for number in range(3):
            target.expect_accepted(issuer.token(sub=f"user-{number}"), "a token of a known key")
    finally:
        issuer.mode = Mode.UP


@check("issuer-large-keys", "RFC 8725 section 3.10")
def large_key_set(target: Target) -> None:
    """A key set of 10 MB is not used, and tokens of other issuers are served meanwhile."""
    _expect_not_served(target.send(token=target.issuer("large").token()), "a key set of 10 MB")
    _expect_others_served(target, "a key set has 10 MB")


@check("issuer-garbage-keys", "RFC 7517 section 5")
def garbage_key_set(target: Target) -> None:
    """A key set that is a page of HTML causes 401 or 503, never 500."""
    _expect_not_served(target.send(token=target.issuer("garbage").token()), "a key set of HTML")


@check("issuer-redirected-keys", "MCP security best practices, SSRF", Severity.SHOULD)
def redirected_key_set(target: Target) -> None:
    """A key set is not fetched from another origin to which it is redirected."""
    before = len(target.server.issuers.strays)
    response = target.send(token=target.issuer("redirect").token())
    _expect_not_served(response, "a redirected key set")
    strays = target.server.issuers.strays[before:]
    if strays:
        raise Failed(f"the redirect was followed to {strays[0]}")


def _expect_patient(target: Target, name: str) -> None:
    issuer = target.issuer(name)
    token = issuer.token()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(target.send, token=token)
        _expect_others_served(target, f"the key set of {name} is awaited")
        _expect_not_served(waiting.result(), f"a token of the issuer {name}")


@check("issuer-slow-keys", "RFC 9110 section 15.6.5")
def slow_key_set(target: Target) -> None:
    """A key set that takes 45 s does not hold up its own tokens so long, nor others at all."""
    _expect_patient(target, "slow")


@check("issuer-endless-keys", "RFC 9110 section 15.6.5")
def endless_key_set(target: Target) -> None:
    """A key set that trickles in without end is given up, and holds up no others."""
    _expect_patient(target, "endless")
