"""What can go wrong between us and the API server.

ClusterError
├── Conflict      another writer was faster, or a precondition failed: look again
├── Forbidden     the operator lacks a permission, or a quota or policy says no
├── Invalid       the API server refuses the object: sending it again can't help
├── NotFound      the object, its namespace or its kind is gone
└── Unavailable   no answer in time, or one that says to try again later
"""

import json


class ClusterError(Exception):
    """A request to the API server failed; the text is the server's own where there is one."""


class Conflict(ClusterError):
    """Another writer was faster, or a precondition failed."""


class Forbidden(ClusterError):
    """The operator lacks a permission, or a quota or policy says no."""


class Invalid(ClusterError):
    """The API server refuses the object."""


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
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if isinstance(found, dict) and found.get("message"):
        text = str(found["message"])
        causes = (found.get("details") or {}).get("causes") or []
        # Applying to an object that has another uid is said to be invalid.
        if any(cause.get("field") == "metadata.uid" for cause in causes):
            return Conflict(text)
    return _BY_STATUS.get(status, Unavailable)(text[:2048] or f"HTTP {status}")
