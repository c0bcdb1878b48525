"""Pure: what the API server's text says about who has refused an object, and the remedy.

Quotas, policies and webhooks answer with the same HTTP status and differ only in their words.
"""

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class _Rejection:
    """One who can refuse an object."""

    pattern: re.Pattern[str]
    """The words by which the API server tells of it."""
    sentence: str
    """The cause, then the remedy; the groups of the pattern fill the braces."""


def _refusal(pattern: str, sentence: str) -> _Rejection:
    return _Rejection(re.compile(pattern), sentence)


_REFUSALS: Final = (
    _refusal(
        r"exceeded quota: (?P<name>[^\s,]{1,253})",
        "ResourceQuota {name} of the namespace leaves no room for it; raise the quota",
    ),
    _refusal(
        r"failed quota: (?P<name>[^\s:]{1,253}): must specify (?P<what>[\w.,-]{1,80})",
        "ResourceQuota {name} admits only pods with {what}; set spec.resources",
    ),
    _refusal(
        r"(?:maximum|minimum) [\w.-]{1,63} usage per (?:Container|Pod)",
        "a LimitRange of the namespace forbids it; correct spec.resources or the LimitRange",
    ),
    _refusal(
        r'violates PodSecurity "(?P<name>[^"]{1,80})"',
        "Pod Security ({name}) forbids the pods; remove the fields named below. kubectl get"
        " deployment -o yaml --show-managed-fields says who has set them",
    ),
    _refusal(
        r"ValidatingAdmissionPolicy '(?P<name>[^']{1,253})'",
        "ValidatingAdmissionPolicy {name} denies it; do what it demands, or change the policy",
    ),
    _refusal(
        r'failed calling webhook "(?P<name>[^"]{1,253})"',
        "webhook {name} can't be called; restore its service, or delete the"
        " ValidatingWebhookConfiguration or MutatingWebhookConfiguration that names it",
    ),
    _refusal(
        r'admission webhook "(?P<name>[^"]{1,253})" denied',
        "webhook {name} denies it; do what it demands, or ask who runs it",
    ),
    _refusal(
        r'serviceaccount "(?P<name>[^"]{1,253})" not found',
        "ServiceAccount {name} does not exist; create it or correct"
        " spec.podTemplate.serviceAccountName",
    ),
    _refusal(
        r"no PriorityClass with name (?P<name>\S{1,253}) was found",
        "PriorityClass {name} does not exist; create it or correct"
        " spec.podTemplate.priorityClassName",
    ),
)
"""The first that fits decides."""


def explain_rejection(text: str) -> str:
    """The API server's text, with its cause and remedy before it where they are known."""
    for refusal in _REFUSALS:
        match = refusal.pattern.search(text)
        if match is not None:
            return f"{refusal.sentence.format(**match.groupdict())}: {text}"
    return text
