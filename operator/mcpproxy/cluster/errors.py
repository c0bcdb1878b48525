"""Errors of requests to the API server and to pods.

ClusterError
├── Conflict      another writer was faster, or a precondition failed: read again
├── NamespaceTerminating  nothing can be created, because the namespace is being deleted
├── Forbidden     the operator lacks a permission
├── Invalid       validation, a quota, a policy or a webhook rejects the object
│   ├── InvalidFields     validation rejects fields, whatever else exists
│   ├── ObjectTooLarge    the object is larger than the API server or etcd admits
│   └── FieldNotDeclared  fields are not in the schema of the installed CRD
├── LimitExceeded a pod sends more than it may, or a list has more bytes
├── NotFound      the object, its namespace or its kind does not exist
├── OperatorFault a fault of the operator while it read or wrote
└── Unavailable   no answer in time, or one that asks for a later retry
"""

import json
import re
from typing import Any, ClassVar, Final

from mcpproxy.api.untrusted_text import clean_text

_TEXT: Final = 2048
"""Characters of a response that an error quotes."""


class ClusterError(Exception):
    """Failed request to the API server; the text is the server's, if it sent one."""

    result: ClassVar[str] = "ClusterError"
    """Value of the metrics label `result`. It is public, so it does not follow the class name."""


class Conflict(ClusterError):
    """Another writer was faster, or a precondition failed."""

    result = "Conflict"


class NamespaceTerminating(ClusterError):
    """The namespace is being deleted."""

    result = "Ending"


class Forbidden(ClusterError):
    """The operator lacks a permission."""

    result = "Forbidden"


class Invalid(ClusterError):
    """Validation, a quota, a policy or a webhook refuses the object."""

    result = "Invalid"


class InvalidFields(Invalid):
    """Validation refuses fields of the object, whatever else exists: only another object helps."""


class ObjectTooLarge(Invalid):
    """The object is larger than the API server or etcd admits."""

    result = "TooLarge"


class FieldNotDeclared(Invalid):
    """The installed CRD is older than the operator and rejects fields or their values.

    `fields` are their paths without list keys, such as `status.backends.session`.
    """

    result = "Undeclared"

    def __init__(self, text: str, fields: frozenset[str]) -> None:
        super().__init__(text)
        self.fields = fields


class LimitExceeded(ClusterError):
    """A pod sends more than it may, or a list has more bytes."""

    result = "LimitExceeded"


class NotFound(ClusterError):
    """The object, its namespace or its kind does not exist."""

    result = "NotFound"


class OperatorFault(ClusterError):
    """A fault of the operator while it read or wrote; the text is for the status."""

    result = "OperatorFault"


class Unavailable(ClusterError):
    """The API server did not answer in time, or asked for a later retry."""

    result = "Unavailable"


_LACKS_PERMISSION = re.compile(r'User "[^"]*" cannot [a-z]+ resource')
"""Pattern of the authorizer's text; admission answers 403 Forbidden as well."""
_WEBHOOK = re.compile(r"failed calling webhook|admission webhook")
_TOO_LARGE = re.compile(r"(request|entity) (is )?too large|trying to send message larger")
"""Pattern of the texts of etcd, the API server and gRPC."""
_UNDECLARED = re.compile(r"\.([A-Za-z][^\s:,]*): field not declared in schema")
_VALIDATION = re.compile(
    r'^\S+ "[^"]*" is invalid: (?!.*(already allocated|AdmissionPolicy))', re.S
)
"""Pattern of the text of validation. A port may be allocated to another Service."""
_LIST_KEY = re.compile(r"\[[^\]]*\]")
_BY_STATUS: dict[int, type[ClusterError]] = {
    400: Invalid,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: ObjectTooLarge,
    415: Invalid,
    422: Invalid,
}


def error_of(status: int, body: bytes, *, writing: bool = False) -> ClusterError:
    """Return the error for an HTTP response; `body` is a metav1.Status or any text.

    `writing` is True for a request that changes something: only these reach admission.
    """
    text = body.decode(errors="replace").strip()
    parsed = _object(text)
    causes: list[dict[str, Any]] = []
    if isinstance(parsed.get("message"), str) and parsed["message"]:
        text = parsed["message"]
        causes = _causes(parsed)
    text = clean_text(text, _TEXT) or f"HTTP {status}"
    # The API server reports an apply to an object with another uid as invalid.
    if any(cause.get("field") == "metadata.uid" for cause in causes):
        return Conflict(text)
    if any(cause.get("reason") == "NamespaceTerminating" for cause in causes):
        return NamespaceTerminating(text)
    fields = _status_fields(causes)
    if status == 422 and fields:
        return FieldNotDeclared(text, fields)
    if status == 422 and causes and _VALIDATION.search(text):
        return InvalidFields(text)
    return (_refusal(status, text) if writing else None) or _BY_STATUS.get(status, Unavailable)(
        text
    )


def _object(text: str) -> dict[str, Any]:
    """Parse a JSON object; return an empty one for any other text, as a pod may send anything."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _causes(status: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the causes in a metav1.Status."""
    details = status.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    listed = causes if isinstance(causes, list) else []
    return [cause for cause in listed if isinstance(cause, dict)]


def _status_fields(causes: list[dict[str, Any]]) -> frozenset[str]:
    """Return the fields that the schema of the status rejects; for a missing one, its parent."""
    fields = set()
    for cause in causes:
        path = _LIST_KEY.sub("", str(cause.get("field", "")))
        if cause.get("reason") == "FieldValueRequired":
            path = path.rpartition(".")[0]
        if path.startswith("status."):
            fields.add(path)
    return frozenset(fields)


def _refusal(status: int, text: str) -> ClusterError | None:
    """Return an error that has the HTTP status of others and differs only in its text."""
    undeclared = frozenset(_LIST_KEY.sub("", path) for path in _UNDECLARED.findall(text))
    if undeclared:
        return FieldNotDeclared(text, undeclared)
    if _TOO_LARGE.search(text):
        return ObjectTooLarge(text)
    if status == 403 and not _LACKS_PERMISSION.search(text):
        return Invalid(text)
    # The status is 500 if a webhook can't be called, even if that is permanent.
    return Invalid(text) if status == 500 and _WEBHOOK.search(text) else None
