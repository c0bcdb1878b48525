"""Places from which a token is read, and the syntax of the Authorization header."""

import base64

from tests.resource_server import messages
from tests.resource_server.check import Failed, Severity, Skipped, check
from tests.resource_server.http_client import HeaderLine, NoResponse, Response, exchange
from tests.resource_server.target import Target, bearer, describe, expect_unauthorized

REFUSED = (400, 401)
"""RFC 6750 section 3.1: 400 for a malformed request, 401 for a token that is not valid."""
TOO_LARGE = (400, 401, 413, 431)


def _expect_each_refused(
    target: Target, lines: dict[str, list[HeaderLine]], statuses: tuple[int, ...] = REFUSED
) -> None:
    target.expect_accepted(target.main.token(), "the good token")
    for what, headers in lines.items():
        expect_unauthorized(target.send(headers=headers), what, statuses)


@check("bearer-good-token", "MCP authorization, Token Handling")
def good_token(target: Target) -> None:
    """A valid access token of the trusted issuer is accepted in each protocol era."""
    for era in target.eras:
        message = messages.build(era, messages.PROBES[era])
        response = target.send(message, target.main.token())
        if response.status != 200:
            raise Failed(f"{era}: {describe(response)}")


@check("bearer-no-token", "MCP authorization, Error Handling; RFC 6750 section 3")
def no_token(target: Target) -> None:
    """A request without a token gets 401 with a Bearer challenge."""
    target.expect_accepted(target.main.token(), "the good token")
    expect_unauthorized(target.send(), "a request without Authorization")


@check("bearer-scheme-other", "RFC 6750 section 2.1; RFC 9110 section 11.4")
def other_scheme(target: Target) -> None:
    """A good token in another authentication scheme is refused."""
    token = target.main.token()
    basic = base64.b64encode(f"alice:{token}".encode()).decode()
    values = ("Basic " + basic, f"DPoP {token}", f"Token {token}", f"Bearer2 {token}", token)
    lines: dict[str, list[HeaderLine]] = {
        f"Authorization: {value[:10]}…": [("Authorization", value)] for value in values
    }
    _expect_each_refused(target, lines)


@check("bearer-scheme-case", "RFC 9110 section 11.1")
def scheme_case(target: Target) -> None:
    """The scheme Bearer is recognized in any case."""
    for scheme in ("bearer", "BEARER", "bEaReR"):
        response = target.send(headers=[("Authorization", f"{scheme} {target.main.token()}")])
        if response.status != 200:
            raise Failed(f"the scheme {scheme}: {describe(response)}")


@check("bearer-header-case", "RFC 9110 section 5.1")
def header_case(target: Target) -> None:
    """The header Authorization is recognized in any case."""
    for name in ("authorization", "AUTHORIZATION", "aUTHORIZATION"):
        response = target.send(headers=[(name, f"Bearer {target.main.token()}")])
        if response.status != 200:
            raise Failed(f"the header {name}: {describe(response)}")


@check("bearer-two-headers", "RFC 9110 section 5.3; RFC 6750 section 2")
def two_headers(target: Target) -> None:
    """A request with two Authorization headers is refused in any order."""
    good, bad = target.main.token(), target.main.token(aud="https://other.example/mcp")
    pairs = {
        "a good and a bad token": (good, bad),
        "a bad and a good token": (bad, good),
        "the same good token twice": (good, good),
        "tokens of two subjects": (good, target.main.token(sub="bob")),
    }
    lines = {what: [*bearer(first), *bearer(second)] for what, (first, second) in pairs.items()}
    lines["Basic and a good token"] = [("Authorization", "Basic YTpi"), *bearer(good)]
    _expect_each_refused(target, lines)


@check("bearer-list-of-tokens", "RFC 6750 section 2.1")
def list_of_tokens(target: Target) -> None:
    """An Authorization header with more than one token is refused."""
    good, bad = target.main.token(), target.main.token(aud="https://other.example/mcp")
    values = (f"{good}, Bearer {bad}", f"{bad}, Bearer {good}", f"{good},{bad}", f"{good} {bad}")
    lines = {f"form {n}": bearer(value) for n, value in enumerate(values, 1)}
    _expect_each_refused(target, lines)


@check("bearer-empty", "RFC 6750 section 2.1")
def empty(target: Target) -> None:
    """An Authorization header without a token is refused."""
    values = ("", "Bearer", "Bearer ", "Bearer  ", "Bearer \t", "Bearer null", "Bearer undefined")
    _expect_each_refused(target, {repr(v): [("Authorization", v)] for v in values})


@check("bearer-query", "MCP authorization, Token Requirements; RFC 6750 section 2.3")
def token_in_query(target: Target) -> None:
    """A token in the query is not read."""
    target.expect_accepted(target.main.token(), "the good token")
    for name in ("access_token", "token", "authorization", "bearer_token"):
        path = f"{target.address.path}?{name}={target.main.token()}"
        expect_unauthorized(target.send(path=path), f"?{name}=…", REFUSED)


@check("bearer-body", "MCP authorization, Token Requirements; RFC 6750 section 2.2")
def token_in_body(target: Target) -> None:
    """A token in a form-encoded body, or in a body that is a message as well, is not read."""
    target.expect_accepted(target.main.token(), "the good token")
    probe, field = target.probe, f"access_token={target.main.token()}".encode()
    both = probe.body[:-1] + b', "form": "&' + field + b'&"}'
    for kind in ("application/x-www-form-urlencoded", "application/json"):
        for body in (field, both):
            headers = {**probe.headers, "Content-Type": kind}
            message = messages.Message(probe.era, body, headers)
            what = f"access_token in a body of {kind}"
            expect_unauthorized(target.send(message), what, (*REFUSED, 415))


@check("bearer-other-headers", "MCP authorization, Token Requirements")
def token_in_other_headers(target: Target) -> None:
    """A token in a cookie or in another header is not read."""
    value = f"Bearer {target.main.token()}"
    names = ["X-Authorization", "X-Forwarded-Authorization", "Proxy-Authorization"]
    names += ["X-Forwarded-Access-Token", "X-Access-Token", "X-Auth-Request-Access-Token"]
    lines: dict[str, list[HeaderLine]] = {name: [(name, value)] for name in names}
    lines["X-Access-Token, bare"] = [("X-Access-Token", target.main.token())]
    lines["a cookie"] = [("Cookie", f"access_token={target.main.token()}; Authorization={value}")]
    _expect_each_refused(target, lines)


@check("bearer-identity-headers", "MCP authorization, Token Handling")
def identity_headers(target: Target) -> None:
    """Headers in which gateways put identities do not replace a token."""
    names = ["X-Forwarded-User", "X-Remote-User", "Remote-User", "X-Auth-Request-User"]
    names += ["X-Forwarded-Email", "X-User", "X-Client-Cert", "X-SSL-Client-Verify"]
    lines: dict[str, list[HeaderLine]] = {name: [(name, "alice")] for name in names}
    lines["an unsigned identity"] = [("X-Jwt-Payload", "eyJzdWIiOiJhbGljZSJ9")]
    _expect_each_refused(target, lines)


@check("bearer-trailer", "RFC 9110 section 6.5.1")
def token_in_trailer(target: Target) -> None:
    """An Authorization field in the trailer of a chunked body is not read."""
    target.expect_accepted(target.main.token(), "the good token")
    expect_unauthorized(_send_trailer(target, target.main.token()), "a token in the trailer")


def _send_trailer(target: Target, token: str) -> Response:
    body = target.probe.body
    chunked = b"%x\r\n%s\r\n0\r\nAuthorization: Bearer %s\r\n\r\n" % (
        len(body),
        body,
        token.encode(),
    )
    lines: list[HeaderLine] = [*target.probe.headers.items(), ("Transfer-Encoding", "chunked")]
    lines += [("Trailer", "Authorization"), ("Connection", "close")]
    with target.address.connect() as connection:
        head = target.address.head("POST", target.address.path, lines)
        return exchange(connection, head + chunked)


@check("bearer-malformed", "RFC 6750 section 2.1; RFC 7515 section 7.1")
def malformed(target: Target) -> None:
    """A token of the wrong form is refused: 1, 2, 4 and 5 parts, bytes that are not ASCII, NUL."""
    good = target.main.token()
    head, payload, signature = good.split(".")
    values: dict[str, bytes] = {
        "one part": head.encode(),
        "two parts": f"{head}.{payload}".encode(),
        "four parts": f"{good}.x".encode(),
        "five parts": f"{head}.{payload}.{signature}.{payload}.{signature}".encode(),
        "only dots": b"..",
        "four dots": b"....",
        "a hundred dots": b"." * 100,
        "not base64": b"!!!.???.***",
        "UTF-8": good.encode() + "é".encode(),
        "Latin-1": good.encode() + b"\xe9",
        "all high bytes": bytes(range(0x80, 0x100)),
        "header is no JSON": f"YWJj.{payload}.{signature}".encode(),
        "header is a list": f"W10.{payload}.{signature}".encode(),
        "payload is no JSON": f"{head}.YWJj.{signature}".encode(),
    }
    _expect_each_refused(target, {what: bearer(value) for what, value in values.items()})


@check("bearer-control-bytes", "RFC 9110 section 5.5")
def control_bytes(target: Target) -> None:
    """A good token with a NUL or another control byte in it is refused."""
    good = target.main.token().encode()
    target.expect_accepted(good, "the good token")
    for what, byte in (("NUL", b"\0"), ("ESC", b"\x1b"), ("DEL", b"\x7f"), ("VT", b"\x0b")):
        for value in (good + byte, byte + good, good[:20] + byte + good[20:]):
            expect_unauthorized(target.send(token=value), f"{what} in a token", REFUSED)


@check("bearer-oversized", "RFC 9110 section 5.4; RFC 6585 section 5")
def oversized(target: Target) -> None:
    """Tokens of 60 kB and 1 MB are refused with 4xx, and the server goes on."""
    for size in (60_000, 1_000_000):
        try:
            response = target.send(token=target.main.token() + "A" * size)
        except NoResponse:
            # A response before the end of the request is lost if the connection is reset.
            continue
        if response.status not in TOO_LARGE:
            raise Failed(f"a token of {size} bytes: {describe(response)}")
    target.expect_accepted(target.main.token(), "the good token after oversized ones")


@check("bearer-token-limit", "RFC 9110 section 5.4; RFC 6585 section 5")
def token_limit(target: Target) -> None:
    """A valid token of the documented size is accepted, and a larger one is refused."""
    most = target.options.token_bytes
    if not most:
        raise Skipped("the size of the largest token is unknown; --token-bytes")
    target.expect_accepted(_token_of(target, most - 8), f"a token of {most} bytes at most")
    response = target.send(token=_token_of(target, most + 1024))
    expect_unauthorized(response, f"a signed token of more than {most} bytes", TOO_LARGE)


def _token_of(target: Target, size: int) -> str:
    """Return a valid token of this size, or of up to 3 bytes less."""
    spare = size - len(target.main.token(padding=""))
    return target.main.token(padding="A" * (spare * 3 // 4))


@check("bearer-deep-json", "RFC 8259 section 9")
def deep_json(target: Target) -> None:
    """Deeply nested JSON in a header or in signed claims causes no 5xx."""
    deep: object = 1
    for _ in range(400):
        deep = [deep]
    signed = target.send(token=target.main.token(nested=deep))
    if signed.status >= 500:
        raise Failed(f"claims nested 400 deep: {describe(signed)}")
    encoded = base64.urlsafe_b64encode(b"[" * 5000).rstrip(b"=").decode()
    response = target.send(token=f"{encoded}.{encoded}.AAAA")
    expect_unauthorized(response, "a header nested 5000 deep", TOO_LARGE)


@check("bearer-extra-space", "RFC 9110 section 11.4", Severity.SHOULD)
def extra_space(target: Target) -> None:
    """More than one space after the scheme is accepted."""
    target.expect_accepted(" " + target.main.token(), "a token after two spaces")
