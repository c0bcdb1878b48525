"""Pages for browsers that visit an MCP endpoint, which serves MCP clients and not people.

They are whole in themselves: the endpoint serves no files.
"""

from base64 import b64encode
from functools import cache
from hashlib import sha256
from typing import Final

from mcpproxy.pages.document import snippets
from mcpproxy.pages.html import Child, Html, join, tag, untrusted
from mcpproxy.pages.security import standalone_headers

CONTENT_TYPE: Final = "text/html; charset=utf-8"
_STYLE: Final = (
    ":root{color-scheme:light dark}"
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:45rem;margin:2rem auto;padding:0 1rem}"
    "h1{font-size:1.4rem}pre,code{font-family:ui-monospace,monospace;overflow-wrap:anywhere}"
    "pre{white-space:pre-wrap;border:1px solid;border-radius:.4rem;padding:.75rem}"
    "summary{cursor:pointer}"
)
_WHAT: Final = (
    "This address is an endpoint of the Model Context Protocol (MCP). It serves MCP clients, such"
    " as AI assistants and editors, and has nothing else to show in a browser."
)


@cache
def page_headers() -> tuple[tuple[str, str], ...]:
    """Return the headers of these pages."""
    digest = b64encode(sha256(_STYLE.encode()).digest()).decode()
    media = (("Content-Type", CONTENT_TYPE), ("Vary", "Accept"))
    return (*media, *standalone_headers(digest))


def endpoint_page(name: str, url: str) -> bytes:
    """Return the page of an endpoint that anyone may use."""
    return _page(
        "MCP endpoint",
        tag("p", _WHAT),
        tag("p", "URL: ", tag("code", untrusted(url))),
        tag("h2", "Connect a client"),
        snippets(name, url),
    )


@cache
def sign_in_page() -> bytes:
    """Return the page of an endpoint that requires credentials. It reveals nothing else."""
    sign_in = (
        "This endpoint requires credentials. Add the URL in the address bar to your MCP client. A"
        " client that supports OAuth then opens the sign-in page of the provider."
    )
    header = tag("code", "Authorization: Bearer TOKEN")
    programs = (
        "Programs send a token or an API key that the owner of this endpoint has issued, in this"
        " header: "
    )
    return _page(
        "MCP endpoint: sign in",
        *(tag("p", _WHAT), tag("p", sign_in), tag("p", programs, header)),
    )


def _page(title: str, *content: Child) -> bytes:
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Html(_STYLE)),
    )
    body = tag("body", tag("main", tag("h1", title), *content))
    markup = join((Html("<!doctype html>"), tag("html", head, body, lang="en")))
    return markup.encode(errors="replace")
