"""What can go wrong between us and the API server.

ClusterError
├── Conflict      another writer was faster, or a precondition failed: look again
├── Ending        the namespace is being deleted: nothing can be created there any more
├── Forbidden     the operator lacks a permission
├── Invalid       validation, a quota, a policy or a webhook refuses the object
│   └── Undeclared  fields are not in the schema of the installed CRD
├── NotFound      the object, its namespace or its kind is gone
└── Unavailable   no answer in time, or one that says to try again later
"""

import json
import re
from typing import Any


class ClusterError(Exception):
    """A request to the API server failed; the text is the server's own where there is one."""


class Conflict(ClusterError):
    """Another writer was faster, or a precondition failed."""


class Ending(ClusterError):
    """The namespace is being deleted."""


class Forbidden(ClusterError):
    """The operator lacks a permission."""


class Invalid(ClusterError):
    """Validation, a quota, a policy or a webhook refuses the object."""


class Undeclared(Invalid):
    """Fields are not in the schema of the installed CRD, which is older than the operator.

    `fields` are their paths without list keys, such as `status.backends.session`.
    """

    def __init__(self, text: str, fields: frozenset[str]) -> None:
        super().__init__(text)
        self.fields = fields


class NotFound(ClusterError):
    """The object, its namespace or its kind does not exist."""


class Unavailable(ClusterError):
    """No answer in time, or one that says to try again later."""


_LACKS_PERMISSION = re.compile(r'User "[^"]*" cannot [a-z]+ resource')
"""Authorizer and admission both answer 403 Forbidden; only the authorizer words it like this."""
_WEBHOOK = re.compile(r"failed calling webhook|admission webhook")
_UNDECLARED = re.compile(r"\.([A-Za-z][^\s:,]*): field not declared in schema")
_LIST_KEY = re.compile(r"\[[^\]]*\]")
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


def error_of(status: int, body: bytes, *, writing: bool = False) -> ClusterError:
    """The error that an HTTP answer stands for; `body` is a metav1.Status or any text.

    `writing` says whether the request changes something: only then does admission answer it.
    """
    text = body.decode(errors="replace").strip()
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    causes: list[dict[str, Any]] = []
    if isinstance(found, dict) and found.get("message"):
        text = str(found["message"])
        causes = (found.get("details") or {}).get("causes") or []
    text = text[:2048] or f"HTTP {status}"
    # Applying to an object that has another uid is said to be invalid.
    if any(cause.get("field") == "metadata.uid" for cause in causes):
        return Conflict(text)
    if any(cause.get("reason") == "NamespaceTerminating" for cause in causes):
        return Ending(text)
    return (_refusal(status, text) if writing else None) or _BY_STATUS.get(status, Unavailable)(
        text
    )


def _refusal(status: int, text: str) -> ClusterError | None:
    """The errors that share an HTTP status with others and differ only in their text."""
    undeclared = frozenset(_LIST_KEY.sub("", path) for path in _UNDECLARED.findall(text))
    if undeclared:
        return Undeclared(text, undeclared)
    if status == 403 and not _LACKS_PERMISSION.search(text):
        return Invalid(text)
    # A webhook that can't be called is answered with 500, whether or not it will come back.
    return Invalid(text) if status == 500 and _WEBHOOK.search(text) else None
