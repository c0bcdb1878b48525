"""Credentials that are recognized in any text, in time linear in its length. Pure."""

import re
from typing import Final
from urllib.parse import parse_qsl

from mcpproxy.terminal.files.secret_values import SEGMENT

REDACTED: Final = "[redacted]"
_GAP: Final = r"[ \t]{0,8}"
_QUOTE: Final = r"\\{0,3}[\"']?"
"""A quote, which may be escaped since the text can be JSON within JSON."""
# No repetition before a literal may be without a limit: each start would read to the end.
_TEXTS: Final = re.compile(
    r"(?P<url>\b[a-z][a-z0-9+.-]{0,31}://[^\s\"'<>\\]+)"
    rf"|(?P<header>\b(?:authorization|cookie){_QUOTE}{_GAP}[=:]{_GAP}{_QUOTE})(?![\s\[{{])[^\"'\n\\]+"
    r"|(?P<scheme>\b(?:bearer|basic|token)\s{1,8})[^\s\"',;\\]+"
    r"|(?P<jwt>\beyJ[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*){0,4})"
    r"|(?P<pem>-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?"
    r"(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|$))"
    r"|(?P<known>\b(?:gh[pousr]_|github_pat_|glpat-|sk-|sk_|xox[abeprs]-|ntn_|secret_|AKIA|ASIA|AIza"
    r"|hf_|npm_|pypi-|ctx7sk)[A-Za-z0-9_.=-]{4,})"
    r"|(?P<pair>(?:authorization|token|secret|passw(?:or)?d|api[-_]?key|access[-_]?key"
    rf"|credential|cookie|signature)[\w-]{{0,64}}{_QUOTE}{_GAP}[=:]{_GAP}{_QUOTE})"
    r"(?![\s\[{]|(?:\d{1,9}|true|false|null)\b)(?:(?<=[\"'])[^\"'\n\\]+|[^\s\"',;&}\\]+)",
    re.I | re.DOTALL,
)


def redact_patterns(text: str) -> str:
    """Return a text without the known forms of credentials."""
    return _TEXTS.sub(_replace, text)


def _replace(match: re.Match[str]) -> str:
    if match["url"] is not None:
        return _redact_url(match["url"])
    for group in ("header", "scheme", "pair"):
        if match[group] is not None:
            return f"{match[group]}{REDACTED}"
    return REDACTED


def _redact_url(url: str) -> str:
    """Return a URL without user information, values of parameters, and parts like a token."""
    scheme, _, rest = url.partition("://")
    rest, _, fragment = rest.partition("#")
    place, mark, query = rest.partition("?")
    host, *segments = place.split("/")
    port = host.rpartition(":")[2] if ":" in host and not host.startswith("[") else "0"
    if "@" in host or ("@" in place and not port.isdecimal()):
        # A password may contain a slash, although it should not.
        host, *segments = f"{REDACTED}@{place.rpartition('@')[2]}".split("/")
    path = [REDACTED if SEGMENT.fullmatch(segment) else segment for segment in segments]
    shown = f"{scheme}://{'/'.join([host, *path])}"
    if mark:
        shown += f"?{_redact_query(query)}"
    return f"{shown}#{REDACTED}" if fragment else shown


def _redact_query(query: str) -> str:
    try:
        names = [name for name, _ in parse_qsl(query, keep_blank_values=True, max_num_fields=100)]
    except ValueError:
        return REDACTED
    return "&".join(f"{name}={REDACTED}" for name in names)
