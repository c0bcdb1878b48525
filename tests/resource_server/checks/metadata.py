"""Protected resource metadata (RFC 9728), and what must not have an effect on it."""

from urllib.parse import urlsplit

from tests.resource_server.check import Failed, Severity, check
from tests.resource_server.http_client import HeaderLine, Response
from tests.resource_server.target import (
    WELL_KNOWN,
    Target,
    describe,
    expect_object,
)

EVIL = "evil.example"
HOSTILE: dict[str, list[HeaderLine]] = {
    "Host": [("Host", EVIL)],
    "X-Forwarded-Host": [("X-Forwarded-Host", EVIL)],
    "X-Forwarded-Host, list": [("X-Forwarded-Host", f"{EVIL}, {EVIL}")],
    "Forwarded": [("Forwarded", f"for=192.0.2.1;host={EVIL};proto=gopher")],
    "X-Forwarded-Proto": [("X-Forwarded-Proto", "gopher")],
    "X-Forwarded-Port": [("X-Forwarded-Port", "6666")],
    "X-Forwarded-Prefix": [("X-Forwarded-Prefix", f"/{EVIL}")],
    "X-Forwarded-Server": [("X-Forwarded-Server", EVIL)],
    "X-Original-URL": [("X-Original-URL", f"/{EVIL}"), ("X-Rewrite-URL", f"/{EVIL}")],
    "X-Original-Host": [("X-Original-Host", EVIL), ("X-Host", EVIL)],
    "Origin": [("Origin", f"https://{EVIL}")],
    "Referer": [("Referer", f"https://{EVIL}/")],
}
TRACES = (EVIL, "gopher", "6666")


def metadata_of(target: Target) -> dict[str, object]:
    """Return the metadata at the well-known form with the path. Raise Failed."""
    return expect_object(target.fetch_metadata(target.metadata_path), target.metadata_path)


@check("metadata-path-form", "RFC 9728 section 3.1; MCP authorization server discovery")
def path_form(target: Target) -> None:
    """The metadata is at the well-known path followed by the path of the public URL, tokenless."""
    metadata_of(target)


@check("metadata-root-form", "MCP authorization server discovery", Severity.SHOULD)
def root_form(target: Target) -> None:
    """The metadata is also at the well-known path alone, which clients try second."""
    content = expect_object(target.fetch_metadata(WELL_KNOWN), WELL_KNOWN)
    _expect_resource(target, content, WELL_KNOWN)


@check("metadata-resource", "RFC 9728 section 3.3")
def resource(target: Target) -> None:
    """The member `resource` is the public URL, exactly."""
    _expect_resource(target, metadata_of(target), target.metadata_path)


def _expect_resource(target: Target, content: dict[str, object], where: str) -> None:
    if content.get("resource") != target.options.public_url:
        raise Failed(
            f"{where} has the resource {content.get('resource')!r}, "
            f"not {target.options.public_url!r}"
        )


@check("metadata-authorization-servers", "MCP authorization server discovery; RFC 9728 section 2")
def authorization_servers(target: Target) -> None:
    """The member `authorization_servers` names the trusted issuers, exactly as in `iss`."""
    servers = metadata_of(target).get("authorization_servers")
    if not isinstance(servers, list) or target.main.url not in servers:
        raise Failed(f"authorization_servers is {servers!r}, without {target.main.url}")
    known = {issuer.url for issuer in target.server.issuers.by_name.values()}
    ours = [url for url in servers if str(url).startswith(target.server.issuers.origin)]
    if unknown := [url for url in ours if url not in known]:
        raise Failed(f"authorization_servers names {unknown}, which is no issuer")


@check("metadata-media-type", "RFC 9728 section 3.2")
def media_type(target: Target) -> None:
    """The metadata is application/json with status 200."""
    response = target.fetch_metadata(target.metadata_path)
    kind = response.first("content-type").partition(";")[0].strip()
    if response.status != 200 or kind != "application/json":
        raise Failed(f"content-type {kind!r}, {describe(response)}")


@check("metadata-bearer-methods", "RFC 9728 section 2; MCP authorization, Token Requirements")
def bearer_methods(target: Target) -> None:
    """The metadata offers no other way to send a token than the header."""
    methods = metadata_of(target).get("bearer_methods_supported", ["header"])
    if methods != ["header"]:
        raise Failed(f"bearer_methods_supported is {methods!r}")


@check("metadata-scopes", "MCP authorization, Refresh Tokens", Severity.SHOULD)
def scopes(target: Target) -> None:
    """The member `scopes_supported` is a list of texts without offline_access, if present."""
    listed = metadata_of(target).get("scopes_supported", [])
    if not isinstance(listed, list) or not all(isinstance(scope, str) for scope in listed):
        raise Failed(f"scopes_supported is {listed!r}")
    if "offline_access" in listed:
        raise Failed("scopes_supported contains offline_access")


@check("metadata-no-empty-members", "RFC 9728 section 3.2")
def empty_members(target: Target) -> None:
    """Members without a value are left out of the metadata."""
    empty = [name for name, value in metadata_of(target).items() if value in ([], None)]
    if empty:
        raise Failed(f"the metadata has members without a value: {empty}")


@check("metadata-with-bad-token", "RFC 9728 section 3.1", Severity.SHOULD)
def with_bad_token(target: Target) -> None:
    """A bad token does not keep a client from the metadata."""
    lines: list[HeaderLine] = [("Authorization", "Bearer expired")]
    for path in (target.metadata_path, WELL_KNOWN):
        expect_object(target.fetch_metadata(path, lines), f"{path} with a bad token")


@check("metadata-cross-origin", "Fetch standard, CORS protocol", Severity.SHOULD)
def cross_origin(target: Target) -> None:
    """Clients in browsers can read the metadata."""
    lines: list[HeaderLine] = [("Origin", "https://client.example")]
    response = target.fetch_metadata(target.metadata_path, lines)
    expect_object(response, "the metadata with an Origin")
    allowed = response.first("access-control-allow-origin")
    if allowed not in ("*", "https://client.example"):
        raise Failed(f"Access-Control-Allow-Origin is {allowed!r}")


@check("metadata-post", "RFC 9110 section 15.5.6", Severity.SHOULD)
def post(target: Target) -> None:
    """Other methods than GET, HEAD and OPTIONS on the metadata are refused, and serve no MCP."""
    for method in ("POST", "PUT", "DELETE"):
        response = target.send(path=target.metadata_path, method=method)
        if not 400 <= response.status < 500:
            raise Failed(f"{method} {target.metadata_path}: {describe(response)}")


@check("metadata-other-path", "RFC 9728 section 3.3", Severity.SHOULD)
def other_path(target: Target) -> None:
    """The metadata of another path is not answered: it would name a different resource."""
    for path in (f"{target.metadata_path}/more", f"{WELL_KNOWN}/kit-other"):
        response = target.fetch_metadata(path)
        if response.status == 200:
            raise Failed(f"{path}: {describe(response)}")


def _expect_no_trace(target: Target, response: Response, what: str) -> None:
    # Other refusals may name what they refuse; clients take no URL from them.
    if response.status not in (200, 401):
        return
    for trace in TRACES:
        if trace in response.everything.replace(target.options.public_url, ""):
            raise Failed(f"{what} shows in the response: {response.everything[:300]!r}")


@check("metadata-hostile-headers", "RFC 9728 section 7.3; RFC 9110 section 17.1")
def hostile_headers(target: Target) -> None:
    """Host, Forwarded and X-Forwarded-* of a request do not change the metadata."""
    metadata_of(target)
    for what, lines in HOSTILE.items():
        for path in (target.metadata_path, WELL_KNOWN):
            response = target.fetch_metadata(path, lines)
            _expect_no_trace(target, response, f"{what} of GET {path}")
            if response.status == 200:
                _expect_resource(target, expect_object(response, path), f"{path} with {what}")
            elif not 400 <= response.status < 500:
                raise Failed(f"{what} of GET {path}: {describe(response)}")


@check("metadata-absolute-form", "RFC 9112 section 3.2.2")
def absolute_form(target: Target) -> None:
    """A request target in absolute form with another host does not change the metadata."""
    metadata_of(target)
    response = target.fetch_metadata(f"http://{EVIL}{target.metadata_path}")
    _expect_no_trace(target, response, "the host of the request target")
    if response.status >= 500:
        raise Failed(f"a request target in absolute form: {describe(response)}")


@check("metadata-internal-address", "RFC 9728 section 3.3")
def internal_address(target: Target) -> None:
    """The metadata and the challenge do not name the address behind the public URL."""
    inner, outer = urlsplit(target.options.url).netloc, urlsplit(target.options.public_url).netloc
    for what, response in (
        ("the metadata", target.fetch_metadata(target.metadata_path)),
        ("the challenge", target.send()),
    ):
        if inner != outer and inner in response.everything:
            raise Failed(f"{what} names {inner}")
        if outer not in response.everything:
            raise Failed(f"{what} does not name {outer}: {response.everything[:300]!r}")


@check("challenge-hostile-headers", "RFC 9728 section 7.3; RFC 9110 section 17.1")
def challenge_with_hostile_headers(target: Target) -> None:
    """Host, Forwarded and X-Forwarded-* of a request do not change the challenge."""
    expected = target.challenge(target.send()).get("resource_metadata")
    for what, lines in HOSTILE.items():
        response = target.send(headers=lines)
        _expect_no_trace(target, response, f"{what} of POST")
        if response.status == 401:
            result = target.challenge(response).get("resource_metadata")
            if result != expected:
                raise Failed(f"{what}: resource_metadata is {result!r}, not {expected!r}")
        elif not 400 <= response.status < 500:
            raise Failed(f"{what} of POST: {describe(response)}")
