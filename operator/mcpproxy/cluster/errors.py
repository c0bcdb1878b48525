"""What can go wrong between us and the API server, or a pod.

ClusterError
├── Conflict      another writer was faster, or a precondition failed: look again
├── Forbidden     the operator lacks a permission, or a quota or policy says no
├── Invalid       the API server refuses the object: sending it again can't help
├── LimitExceeded a pod sends more than it may
├── NotFound      the object, its namespace or its kind is gone
└── Unavailable   no answer in time, or one that says to try again later
"""

import json
from typing import Any, Final

from mcpproxy.api.text import clean

_TEXT: Final = 2048
"""Characters of a response that an error repeats."""


class ClusterError(Exception):
    """A request to the API server failed; the text is the server's own where there is one."""


class Conflict(ClusterError):
    """Another writer was faster, or a precondition failed."""


class Forbidden(ClusterError):
    """The operator lacks a permission, or a quota or policy says no."""


class Invalid(ClusterError):
    """The API server refuses the object."""


class LimitExceeded(ClusterError):
    """A pod sends more than it may."""


class NotFound(ClusterError):
    """The object, its namespace or its kind does not exist."""


class Unavailable(ClusterError):
    """No answer in time, or one that says to try again later."""


_BY_STATUS: dict[int, type[ClusterError]] = {
    400: Invalid,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: NotFound,
    413: Invalid,
    415: Invalid,
    422: Invalid,
}


def error_of(status: int, body: bytes) -> ClusterError:
    """The error that an HTTP answer stands for; `body` is a metav1.Status or any text."""
    text = body.decode(errors="replace").strip()
    found = _object(text)
    kind = _BY_STATUS.get(status, Unavailable)
    if isinstance(found.get("message"), str) and found["message"]:
        text = found["message"]
        # Applying to an object that has another uid is said to be invalid.
        if "metadata.uid" in _fields(found):
            kind = Conflict
    return kind(clean(text, _TEXT) or f"HTTP {status}")


def _object(text: str) -> dict[str, Any]:
    """The JSON object that a text is; an empty one for any other, as a pod may send anything."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _fields(status: dict[str, Any]) -> list[object]:
    """The fields that a metav1.Status gives as causes."""
    details = status.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    listed = causes if isinstance(causes, list) else []
    return [cause.get("field") for cause in listed if isinstance(cause, dict)]
