"""Names and URIs outward and inward: total, and always to be undone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpproxy.proxy.core.translation.namespacing import PrefixMapping, find_owner

PREFIXES = st.from_regex(r"[A-Za-z0-9_-]{1,32}", fullmatch=True)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
SCHEMES = st.from_regex(r"[A-Za-z][A-Za-z0-9+.-]{0,10}:(//)?", fullmatch=True)
URIS = st.builds("{}{}".format, SCHEMES, TEXT) | TEXT | st.sampled_from(["", "/", "//", ":", "a:"])


@given(PREFIXES | st.just(""), TEXT)
def test_every_name_comes_back_as_it_was(prefix: str, name: str) -> None:
    names = PrefixMapping(prefix)
    assert names.to_upstream(names.to_downstream(name)) == name


@given(PREFIXES | st.just(""), URIS)
def test_every_uri_comes_back_as_it_was(prefix: str, uri: str) -> None:
    names = PrefixMapping(prefix)
    assert names.uri_to_upstream(names.uri_to_downstream(uri)) == uri


@given(PREFIXES, URIS, URIS)
def test_two_uris_never_become_one(prefix: str, text: str, other: str) -> None:
    names = PrefixMapping(prefix)
    assert (names.uri_to_downstream(text) == names.uri_to_downstream(other)) == (text == other)


@given(PREFIXES, SCHEMES, TEXT)
def test_a_uri_keeps_its_scheme(prefix: str, scheme: str, rest: str) -> None:
    outward = PrefixMapping(prefix).uri_to_downstream(f"{scheme}x{rest}")
    assert outward == f"{scheme}{prefix}/x{rest}"


@pytest.mark.parametrize(
    ("own", "shown"),
    [
        ("file:///etc/hosts", "file://fs//etc/hosts"),
        ("notes://by-title/{title}", "notes://fs/by-title/{title}"),
        ("http://example.com:80/a?b#c", "http://fs/example.com:80/a?b#c"),
        ("mailto:someone@example.com", "mailto:fs/someone@example.com"),
        ("urn:isbn:123", "urn:fs/isbn:123"),
        ("data:,x", "data:fs/,x"),
        ("git+ssh://host/repo", "git+ssh://fs/host/repo"),
        ("{scheme}://x", "fs/{scheme}://x"),
        ("relative/path", "fs/relative/path"),
        ("", "fs/"),
    ],
)
def test_uris_as_clients_see_them(own: str, shown: str) -> None:
    assert PrefixMapping("fs").uri_to_downstream(own) == shown
    assert PrefixMapping("fs").uri_to_upstream(shown) == own


def test_without_a_prefix_nothing_changes() -> None:
    names = PrefixMapping("")
    assert names.to_downstream("add") == names.to_upstream("add") == "add"
    assert names.uri_to_downstream("a://b") == names.uri_to_upstream("a://b") == "a://b"


@pytest.mark.parametrize("name", ["add", "fsadd", "Fs_add", "other_fs_add", ""])
def test_a_name_without_the_prefix_has_no_upstream_name(name: str) -> None:
    assert PrefixMapping("fs").to_upstream(name) is None


@pytest.mark.parametrize("uri", ["a://b/c", "a://fs", "a://fsx/c", "fs", "", "a:b/fs/c"])
def test_a_uri_without_the_prefix_has_no_upstream_uri(uri: str) -> None:
    assert PrefixMapping("fs").uri_to_upstream(uri) is None


def test_a_prefix_that_url_libraries_made_lower_case_is_still_known() -> None:
    assert (
        PrefixMapping("FileSystem").uri_to_upstream("file://filesystem/Etc/Hosts")
        == "file://Etc/Hosts"
    )


def test_the_longest_prefix_owns_a_name() -> None:
    names = [(prefix or "bare", PrefixMapping(prefix)) for prefix in ("", "a", "a_b")]
    assert find_owner("a_b_c", names) == "a_b"
    assert find_owner("a_c", names) == "a"
    assert find_owner("b_c", names) == "bare"
    assert find_owner("s://a_b/x", names, uri=True) == "a_b"
    assert find_owner("s://a/x", names, uri=True) == "a"
    assert find_owner("s://c/x", names, uri=True) == "bare"


def test_a_name_without_a_known_prefix_has_no_owner() -> None:
    assert find_owner("c_d", [("a", PrefixMapping("a"))]) is None


@given(st.lists(PREFIXES, min_size=1, max_size=6, unique=True), TEXT, st.data())
def test_a_downstream_name_always_maps_back_to_its_backend(
    prefixes: list[str], name: str, data: st.DataObject
) -> None:
    names = {prefix: PrefixMapping(prefix) for prefix in prefixes}
    mine = names[data.draw(st.sampled_from(prefixes))]
    owner = find_owner(mine.to_downstream(name), names.items())
    assert owner is not None
    assert names[owner].to_upstream(mine.to_downstream(name)) is not None
    assert len(owner) >= len(mine.prefix)
