"""Host and Origin: names of the proxy, and pages that may send requests."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpproxy.api.authority import Authority, WebOrigin, parse_authority, parse_origin
from mcpproxy.proxy.downstream.host_origin import LOCAL, HostOriginPolicy, service_hosts

GUARD = HostOriginPolicy(
    (*LOCAL, "tools.team.svc", "*.example.com", "fixed.example.net:8443", "plain.example.net:80"),
    ["https://app.example.org", "http://dev.example.org:3000/", "https://*.pages.example"],
)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8000",
        "localhost:",
        "LocalHost:8000",
        "127.0.0.1:1",
        "[::1]",
        "[::1]:8000",
        "[0:0:0:0:0:0:0:1]:8000",
        "tools.team.svc",
        "tools.team.svc.",
        "tools.team.svc:80",
        "mcp.example.com",
        "a.b.example.com:443",
        "fixed.example.net:8443",
        "plain.example.net",
        "plain.example.net:80",
    ],
)
def test_a_host_that_names_this_proxy_is_admitted(host: str) -> None:
    assert GUARD.admits_host(host.encode())


@pytest.mark.parametrize(
    "host",
    [
        "evil.com",
        "example.com",
        "evilexample.com",
        "tools.team.svc.evil.com",
        "localhost.evil.com",
        "127.0.0.2",
        "[::2]",
        "",
        "localhost@evil.com",
        "\xff",
        "127.0.0.1:80@evil.com",
        "user@localhost",
        "[::1]evil",
        "[::1].evil.com",
        "[::1",
        "[localhost]",
        "[::1%25lo]",
        "localhost:abc",
        "localhost:99999",
        "localhost:80:80",
        "localhost,evil.com",
        "localhost/",
        "http://localhost",
        "fixed.example.net",
        "fixed.example.net:443",
        "plain.example.net:8080",
    ],
)
def test_s2_a_foreign_host_is_refused(host: str) -> None:
    assert not GUARD.admits_host(host.encode("latin-1"))


def test_s2_a_request_without_a_host_is_refused() -> None:
    assert not GUARD.admits_host(None)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "localhost:8000"),
        ("http://localhost:8000", "localhost:8000"),
        ("http://LOCALHOST:8000", "localhost:8000"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("https://tools.team.svc", "tools.team.svc"),
        ("https://tools.team.svc", "tools.team.svc:443"),
        ("http://tools.team.svc", "tools.team.svc:80"),
        ("https://mcp.example.com", "mcp.example.com"),
        ("https://app.example.org", "localhost:8000"),
        ("https://app.example.org:443", "localhost:8000"),
        ("http://dev.example.org:3000", "tools.team.svc"),
        ("https://one.pages.example", "tools.team.svc"),
    ],
)
def test_programs_and_known_pages_are_admitted(origin: str | None, host: str) -> None:
    header = None if origin is None else origin.encode()
    assert GUARD.admits_origin(header, host.encode())


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "https://evil.com",
        "http://app.example.org",
        "https://app.example.org:8443",
        "https://app.example.org.evil.com",
        "http://dev.example.org",
        "https://pages.example",
        "http://one.pages.example",
        "file://localhost",
        "file://",
        "https://localhost.evil.com",
        "",
        "http://[",
        "https://user@evil.com",
        "http://localhost:80@evil.com",
        "http://[::1].evil.com",
        "http://[::1]evil.com",
        "http://localhost",
        "http://localhost:9999",
        "https://localhost",
        "http://127.0.0.1:8000",
        "https://mcp.example.com",
        "chrome-extension://localhost:8000",
        "http://localhost:8000/",
        "http://localhost:8000, http://evil.com",
        "http://localhost:8000 http://localhost:8000",
    ],
)
def test_s1_a_foreign_origin_is_refused(origin: str) -> None:
    assert not GUARD.admits_origin(origin.encode(), b"localhost:8000")


def test_s1_any_host_does_not_mean_any_page() -> None:
    guard = HostOriginPolicy(["*"])
    assert guard.admits_host(b"whatever.example")
    assert not guard.admits_origin(b"https://whatever.example", b"whatever.example")


def test_any_origin_is_admitted_only_if_configured() -> None:
    guard = HostOriginPolicy(["localhost"], ["*"])
    assert guard.admits_origin(b"https://whatever.example", b"localhost")
    assert not guard.names_origin(b"https://whatever.example")


def test_s1_a_page_without_an_origin_is_never_admitted() -> None:
    assert not HostOriginPolicy(["localhost"], ["*"]).admits_origin(b"null", b"localhost")


def test_a_page_of_our_own_host_reads_responses_without_cors() -> None:
    assert not GUARD.shares_with(b"http://localhost:8000")


@pytest.mark.parametrize("host", ["", "a b", "http://a", "a:b", "a:99999", "[::1", "fd00::1"])
def test_a_malformed_host_is_refused_from_the_start(host: str) -> None:
    with pytest.raises(ValueError, match=r"allowed host .*: invalid"):
        HostOriginPolicy([host])


@pytest.mark.parametrize("origin", ["", "null", "app.example.com", "https://a/b", "https://a@b"])
def test_a_malformed_origin_is_refused_from_the_start(origin: str) -> None:
    with pytest.raises(ValueError, match=r"allowed origin .*: invalid"):
        HostOriginPolicy(["localhost"], [origin])


# RFC 3986, appendix A, rule by rule.
_H16 = "[0-9A-Fa-f]{1,4}"
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"(?:{_OCTET}\.){{3}}{_OCTET}"
_LS32 = f"(?:{_H16}:{_H16}|{_IPV4})"
_IPV6 = "|".join(
    (
        f"(?:{_H16}:){{6}}{_LS32}",
        f"::(?:{_H16}:){{5}}{_LS32}",
        f"(?:{_H16})?::(?:{_H16}:){{4}}{_LS32}",
        f"(?:(?:{_H16}:){{0,1}}{_H16})?::(?:{_H16}:){{3}}{_LS32}",
        f"(?:(?:{_H16}:){{0,2}}{_H16})?::(?:{_H16}:){{2}}{_LS32}",
        f"(?:(?:{_H16}:){{0,3}}{_H16})?::{_H16}:{_LS32}",
        f"(?:(?:{_H16}:){{0,4}}{_H16})?::{_LS32}",
        f"(?:(?:{_H16}:){{0,5}}{_H16})?::{_H16}",
        f"(?:(?:{_H16}:){{0,6}}{_H16})?::",
    )
)
_REG_NAME = r"(?:[A-Za-z0-9\-._~]|%[0-9A-Fa-f]{2}|[!$&'()*+,;=])+"
_HOST = rf"(?:\[(?:{_IPV6})\]|{_REG_NAME})"
STRICT_AUTHORITY = re.compile(rf"{_HOST}(?::[0-9]*)?")
STRICT_ORIGIN = re.compile(rf"[A-Za-z][A-Za-z0-9+\-.]*://{_HOST}(?::[0-9]+)?")

PIECES = st.sampled_from(
    [
        *"[]:@/%.,; \t\\#?*0aZ\x00\xff",
        "::",
        "::1",
        "1::",
        "ffff",
        "12345",
        "127.0.0.1",
        "256.1.1.1",
        "localhost",
        "evil.com",
        ":80",
        ":65536",
        ":00000000080",
        "%41",
        "%zz",
        "http://",
        "https",
        "null",
        "é",
    ]
)
TEXTS = st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=30)


def _port_fits(text: str) -> bool:
    digits = re.search(r":([0-9]+)$", text)
    return digits is None or (len(digits[1]) < 10 and int(digits[1]) <= 65535)


@given(TEXTS)
def test_s2_hosts_are_parsed_by_the_grammar_of_rfc_3986(text: str) -> None:
    dots_only = re.fullmatch(r"\.(:[0-9]*)?", text) is not None
    strict = STRICT_AUTHORITY.fullmatch(text) is not None and _port_fits(text) and not dots_only
    assert (parse_authority(text) is not None) == strict


@given(TEXTS | TEXTS.map(lambda text: f"http://{text}"))
def test_s1_origins_are_parsed_by_the_grammar_of_rfc_6454(text: str) -> None:
    origin = parse_origin(text)
    short = re.search(r":[0-9]{6,}$", text) is None
    strict = STRICT_ORIGIN.fullmatch(text) is not None and _port_fits(text) and short
    assert (origin is not None) == (strict and not re.search(r"://\.(:[0-9]*)?$", text))


@given(TEXTS)
def test_s1_no_header_makes_the_host_check_fail(text: str) -> None:
    header = text.encode("utf-8", "surrogatepass")
    GUARD.admits_host(header)
    GUARD.admits_origin(header, header)
    GUARD.shares_with(header)


def test_hosts_and_ports_have_one_form() -> None:
    assert parse_authority("[0:0::0:1]:080") == Authority("[::1]", 80)
    assert parse_authority("A.Example.") == Authority("a.example", None)
    assert parse_origin("HTTPS://A.example") == WebOrigin("https", "a.example", 443)
    assert parse_origin("vscode-webview://a1") == WebOrigin("vscode-webview", "a1", None)


def test_a_service_has_four_names_inside_its_cluster() -> None:
    assert service_hosts("tools", "team") == (
        "tools",
        "tools.team",
        "tools.team.svc",
        "tools.team.svc.cluster.local",
    )
    assert service_hosts("tools", None) == ()
