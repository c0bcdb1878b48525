"""Files with environment variables (`envFile` of VS Code): lines of NAME=VALUE."""

import re
from pathlib import Path
from typing import Final

from mcpproxy.api.manifest_errors import ManifestError, Problem

MAX_BYTES: Final = 1024 * 1024
"""Size of a file."""
_LINE: Final = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*=(.*)", re.DOTALL)
_LINE_END: Final = re.compile(r"\r\n|\n|\r")
"""Other characters that Unicode regards as line ends can be part of a value."""
_COMMENT: Final = re.compile(r"\s+#")
_BLANK: Final = " \t"
_QUOTED: Final = re.compile(r"(?:'([^']*)'|\"((?:[^\"\\]|\\.)*)\")\s*(?:#.*)?")
_ESCAPE: Final = re.compile(r"\\(.)")
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t"}


def read_env_file(path: Path, field: str) -> dict[str, str]:
    """Return the variables of a file that `field` names. Raise ManifestError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}", field) from error
    if len(data) > MAX_BYTES:
        raise ManifestError(f"{path}: more than {MAX_BYTES // 1024**2} MiB", field)
    try:
        return parse_env_text(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ManifestError(f"{path}: not UTF-8; save the file as UTF-8", field) from None
    except ManifestError as error:
        # The place is the line in the other file.
        (problem,) = error.problems
        raise ManifestError(f"{path}:{problem.place}: {problem.message}", field) from None


def parse_env_text(text: str) -> dict[str, str]:
    """Return the variables of a text. Raise ManifestError with the line."""
    values: dict[str, str] = {}
    for number, line in enumerate(_LINE_END.split(text), 1):
        line = line.strip(_BLANK)
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        # The line itself is not shown, because it may be a secret.
        if match is None or (value := _value(match[2])) is None:
            raise ManifestError.of(
                [Problem("expected NAME=VALUE, with both quotes or none", "", str(number))]
            )
        values[match[1]] = value
    return values


def _value(text: str) -> str | None:
    """Return a value without its quotes or comment; None if a quote is missing."""
    if text.lstrip(_BLANK)[:1] not in ("'", '"'):
        return _COMMENT.split(text, maxsplit=1)[0].strip(_BLANK)
    text = text.lstrip(_BLANK)
    match = _QUOTED.fullmatch(text)
    if match is None:
        return None
    if match[1] is not None:
        return match[1]
    return _ESCAPE.sub(lambda escape: _ESCAPES.get(escape[1], escape[1]), match[2])
