"""Challenges of 401 and 403, and what error responses must not contain."""

import time
from urllib.parse import urlsplit

from tests.resource_server import messages
from tests.resource_server.check import Failed, Severity, Skipped, check
from tests.resource_server.http_client import Response
from tests.resource_server.target import Target, describe, expect_object, expect_unauthorized


def _refused(target: Target) -> dict[str, Response]:
    """Return responses to a request without a token and with several bad tokens."""
    main = target.main
    return {
        "no token": target.send(),
        "a wrong audience": target.send(token=main.token(aud="https://other.example/mcp")),
        "an expired token": target.send(token=main.token(exp=int(time.time()) - 3600)),
        "a bad signature": target.send(token=main.token() + "AAAA"),
        "no JWT": target.send(token="opaque-value-of-a-token"),
    }


@check("challenge-metadata", "RFC 9728 section 5.1; MCP authorization server discovery")
def resource_metadata(target: Target) -> None:
    """Every 401 names the metadata, which resolves without a token and is about the server."""
    for what, response in _refused(target).items():
        expect_unauthorized(response, what)
        url = target.challenge(response).get("resource_metadata", "")
        parts, public = urlsplit(url), urlsplit(target.options.public_url)
        if (parts.scheme, parts.netloc) != (public.scheme, public.netloc):
            raise Failed(f"{what}: resource_metadata is {url!r}, not of the public URL's origin")
        content = expect_object(target.fetch_metadata(parts.path), url)
        if content.get("resource") != target.options.public_url:
            raise Failed(f"{what}: {url} has the resource {content.get('resource')!r}")


@check("challenge-one-bearer", "RFC 9110 section 11.6.1", Severity.SHOULD)
def one_challenge(target: Target) -> None:
    """A 401 has one WWW-Authenticate with one challenge, whose parameters occur once."""
    for what, response in _refused(target).items():
        lines = response.all("www-authenticate")
        if len(lines) != 1 or lines[0].lower().count("bearer ") != 1:
            raise Failed(f"{what}: WWW-Authenticate is {lines}")
        for name in ("error=", "resource_metadata=", "scope="):
            if lines[0].count(f" {name}") > 1:
                raise Failed(f"{what}: {name} occurs twice in {lines[0]!r}")


@check("challenge-invalid-token", "RFC 6750 section 3.1")
def invalid_token(target: Target) -> None:
    """A bad token gets the error code invalid_token."""
    for what, response in _refused(target).items():
        code = target.challenge(response).get("error")
        if what != "no token" and code != "invalid_token":
            raise Failed(f"{what}: the error code is {code!r}")


@check("challenge-no-error", "RFC 6750 section 3.1", Severity.SHOULD)
def no_error_code(target: Target) -> None:
    """A request without a token gets no error code."""
    parameters = target.challenge(target.send())
    if "error" in parameters:
        raise Failed(f"the challenge has the error {parameters['error']!r}")


@check("challenge-text", "RFC 6750 section 3")
def texts(target: Target) -> None:
    """Values of the challenge have only the characters that RFC 6750 permits."""
    hostile = target.main.token(aud='x"\r\nX-Injected: 1', iss='"\\\u00e9')
    responses = {**_refused(target), "hostile claims": target.send(token=hostile)}
    for what, response in responses.items():
        parameters = target.challenge(response)
        for name in ("error", "error_description", "scope", "resource_metadata"):
            value = parameters.get(name, "")
            if not all(" " <= c <= "~" and c not in '"\\' for c in value):
                raise Failed(f"{what}: {name} is {value!r}")
        if response.all("x-injected"):
            raise Failed(f"{what}: a claim became a header")


@check("challenge-scope", "MCP authorization, Scope Selection Strategy", Severity.SHOULD)
def scope_of_401(target: Target) -> None:
    """A 401 names the scopes that a first request needs, if the server uses scopes."""
    content = expect_object(target.fetch_metadata(target.metadata_path), "the metadata")
    if not content.get("scopes_supported"):
        raise Skipped("the metadata has no scopes_supported")
    if not target.challenge(target.send()).get("scope"):
        raise Failed("the challenge of a 401 has no scope")


@check("error-no-token", "RFC 6750 section 5.3; RFC 9700 section 2.3")
def no_token_in_errors(target: Target) -> None:
    """Error responses contain neither the token nor a part of it, nor its claims."""
    subject = "subject-7f3b9c"
    main = target.main
    tokens = {
        "a wrong audience": main.token(aud="https://other.example/mcp", sub=subject),
        "an expired token": main.token(exp=1, sub=subject),
        "a bad signature": main.token(sub=subject)[:-8] + "AAAAAAAA",
        "no JWT": "opaque-value-of-a-token-" + "x" * 40,
        "one part": "eyJhbGciOiJub25lIn0" + "y" * 40,
    }
    for what, token in tokens.items():
        response = target.send(token=token)
        expect_unauthorized(response, what)
        parts = [part for part in token.split(".") if len(part) > 15]
        for secret in (*parts, *(part[:40] for part in parts), subject):
            if secret in response.everything:
                raise Failed(f"{what}: the response contains {secret[:30]!r}")


@check("error-same-for-keys", "RFC 9700 section 2.3", Severity.SHOULD)
def no_traces_of_code(target: Target) -> None:
    """Error responses contain no stack traces and no addresses of key sets."""
    responses = {
        **_refused(target),
        "an issuer that is down": target.send(token=target.server.issuers["cold"].token()),
    }
    signs = ("Traceback", 'File "', "/jwks", "site-packages", "node_modules", "    at ")
    for what, response in responses.items():
        for sign in signs:
            if sign in response.everything:
                raise Failed(f"{what}: the response contains {sign!r}")


def _call_scoped(target: Target, era: str, scope: str) -> Response:
    message = messages.build(
        era, "tools/call", {"name": target.options.scoped_tool, "arguments": {}}
    )
    token = target.main.token(scope=scope)
    if era == messages.MODERN:
        return target.send(message, token)
    try:
        with target.session(token) as session:
            return target.send(messages.Message(era, message.body, _with(message, session)), token)
    except Skipped:
        return target.send(message, token)


def _with(message: messages.Message, session: str) -> dict[str, str]:
    return {**message.headers, "Mcp-Session-Id": session}


def _require_scoped_tool(target: Target) -> tuple[str, ...]:
    if not target.options.scoped_tool or not target.options.scoped_tool_scopes:
        raise Skipped("no tool with scopes was named; --scoped-tool and --scoped-tool-scopes")
    return target.options.scoped_tool_scopes


@check("scope-insufficient", "MCP authorization, Scope Challenge Handling; RFC 6750 section 3.1")
def insufficient_scope(target: Target) -> None:
    """A call that needs more scopes gets 403 with insufficient_scope, with all it gets 200."""
    needed = _require_scoped_tool(target)
    base = target.main.scope
    for era in target.eras:
        response = _call_scoped(target, era, base)
        if response.status != 403:
            raise Failed(f"{era}, no scope: {describe(response)}")
        if target.challenge(response).get("error") != "insufficient_scope":
            raise Failed(f"{era}: the challenge is {response.first('www-authenticate')!r}")
        full = _call_scoped(target, era, " ".join((base, *needed)).strip())
        if full.status != 200:
            raise Failed(f"{era}, all scopes: {describe(full)}")


@check("scope-union", "MCP authorization, Scope Challenge Handling", Severity.SHOULD)
def union_of_scopes(target: Target) -> None:
    """The challenge of a 403 names all scopes that the call needs, and the metadata."""
    needed = _require_scoped_tool(target)
    base = target.main.scope
    for era in target.eras:
        for held in ("", needed[0]):
            response = _call_scoped(target, era, f"{base} {held}".strip())
            if held and len(needed) == 1:
                continue
            parameters = target.challenge(response)
            named = parameters.get("scope", "").split()
            if missing := [scope for scope in needed if scope not in named]:
                raise Failed(f"{era}, with {held!r}: {missing} not in the challenge's {named}")
            if not parameters.get("resource_metadata"):
                raise Failed(f"{era}: the challenge of a 403 has no resource_metadata")
