"""Host and Origin: who means us, and which pages may talk to us."""

import pytest

from mcpproxy.proxy.front.guard import LOCAL, Guard, service_hosts

GUARD = Guard((*LOCAL, "tools.team.svc", "*.example.com"), ["https://app.example.org"])


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8000",
        "LocalHost:8000",
        "127.0.0.1:1",
        "[::1]",
        "[::1]:8000",
        "tools.team.svc",
        "tools.team.svc.",
        "tools.team.svc:80",
        "mcp.example.com",
        "a.b.example.com:443",
    ],
)
def test_a_host_that_names_us_is_admitted(host: str) -> None:
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
    ],
)
def test_s2_a_foreign_host_is_refused(host: str) -> None:
    assert not GUARD.admits_host(host.encode("latin-1"))


def test_s2_a_request_without_a_host_is_refused() -> None:
    assert not GUARD.admits_host(None)


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "http://localhost:3000",
        "https://tools.team.svc",
        "https://app.example.org",
        "https://mcp.example.com",
    ],
)
def test_programs_and_known_pages_are_admitted(origin: str | None) -> None:
    assert GUARD.admits_origin(None if origin is None else origin.encode())


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "https://evil.com",
        "http://app.example.org",
        "https://app.example.org.evil.com",
        "file://localhost",
        "https://localhost.evil.com",
        "",
        "http://[",
        "https://user@evil.com",
    ],
)
def test_s1_a_foreign_origin_is_refused(origin: str) -> None:
    assert not GUARD.admits_origin(origin.encode())


def test_s1_any_host_does_not_mean_any_page() -> None:
    guard = Guard(["*"])
    assert guard.admits_host(b"whatever.example")
    assert not guard.admits_origin(b"https://whatever.example")


def test_any_origin_is_admitted_only_where_that_was_said() -> None:
    assert Guard(["localhost"], ["*"]).admits_origin(b"https://whatever.example")


def test_a_service_has_four_names_inside_its_cluster() -> None:
    assert service_hosts("tools", "team") == (
        "tools",
        "tools.team",
        "tools.team.svc",
        "tools.team.svc.cluster.local",
    )
    assert service_hosts("tools", None) == ()
