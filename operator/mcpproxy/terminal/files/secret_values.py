"""Recognition of values that belong in a Secret. Pure."""

import re
from typing import Final
from urllib.parse import parse_qsl, urlsplit

_NAMES: Final = re.compile(
    r"auth|token|secret|passw|passphrase|credential|cookie|session|signature|private"
    r"|api[-_]?key|access[-_]?key|license|key$|pass$"
    r"|(^|[-_.])(key|keys|pat|pwd|pw|pass|cred|creds|pin|otp|dsn|sas|sig|jwt|vault)([-_.]|$)",
    re.I,
)
_LOGINS: Final = re.compile(r"user|login|account", re.I)
"""Names whose value can be a name and a password."""
_VALUES: Final = re.compile(
    r"\b(bearer|basic|token)\s+\S|authorization|eyJ[A-Za-z0-9_-]{8}|-----BEGIN"
    r"|\b(gh[pousr]_|github_pat_|glpat-|sk-|sk_|pk_|rk_|xox[abeprs]-|xapp-|ntn_|secret_|lin_|AKIA"
    r"|ASIA|AIza|hf_|npm_|pypi-|dop_|SG\.|ya29\.|AGE-SECRET|ctx7sk|figd_|tvly-|fc-|apify_api_)"
    r"|://(?!git@)[^/\s@]+@|(password|passwd|pwd|secret|token|key)[\"']?\s*[=:]\s*\S",
    re.I,
)
_RANDOM: Final = re.compile(r"(?=[^\s]*[0-9])(?=[^\s]*[A-Za-z])[A-Za-z0-9+/_=.-]{20,}")
_PLAIN: Final = re.compile(
    r"^(https?://[^@?]*|/[\w./-]*|~/[\w./-]*|[\w.-]+@[\w.-]+|@?[a-z0-9][\w.-]*/[\w.@-]+"
    r"|[a-z0-9]+([-._][a-z]+[0-9]*)+)$",
    re.I,
)
"""URLs, paths, packages and names of several words, which are long without being random."""
SEGMENT: Final = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])[A-Za-z0-9_-]{20,}")
"""Part of a path that is probably a token."""


def is_secret_name(name: str) -> bool:
    """True if a header, variable, parameter or option with this name usually contains a secret."""
    return bool(_NAMES.search(name))


def is_secret(name: str, value: str) -> bool:
    """True if a value with this name probably contains a secret."""
    has_password = ":" in value and bool(_LOGINS.search(name))
    return is_secret_name(name) or is_secret_value(value) or has_password


def is_secret_value(value: str) -> bool:
    """True if a value contains a known form of credentials, or looks random."""
    if _VALUES.search(value):
        return True
    return bool(_RANDOM.fullmatch(value)) and not _PLAIN.fullmatch(value)


def secret_part_of_url(url: str) -> str | None:
    """Return the part of a URL that is probably a secret, without its value; None if there is
    none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    for name, value in parse_qsl(parts.query, keep_blank_values=True, max_num_fields=1000):
        if value and is_secret(name, value):
            return f"the parameter {name}"
    for number, segment in enumerate(parts.path.split("/")):
        if SEGMENT.fullmatch(segment):
            return f"part {number} of the path"
    return None
