"""Causes and remedies of rejections, from the text of the API server. Pure.

Quotas, policies and webhooks answer with the same HTTP status and differ only in their text.
"""

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class _Rejection:
    """Rejection by a quota, a policy or a webhook."""

    pattern: re.Pattern[str]
    """Pattern of the API server's text."""
    sentence: str
    """Cause and remedy; the groups of the pattern fill the braces."""


def _refusal(pattern: str, sentence: str) -> _Rejection:
    return _Rejection(re.compile(pattern), sentence)


_REFUSALS: Final = (
    _refusal(
        r"exceeded quota: (?P<name>[^\s,]{1,253})",
        "ResourceQuota {name} of the namespace is exhausted; raise the quota",
    ),
    _refusal(
        r"failed quota: (?P<name>[^\s:]{1,253}): must specify (?P<what>[\w.,-]{1,80})",
        "ResourceQuota {name} admits only pods with {what}; set spec.resources",
    ),
    _refusal(
        r"(?:maximum|minimum) [\w.-]{1,63} usage per (?:Container|Pod)",
        "a LimitRange of the namespace forbids the pods; correct spec.resources or the LimitRange",
    ),
    _refusal(
        r'violates PodSecurity "(?P<name>[^"]{1,80})"',
        "Pod Security ({name}) forbids the pods; correct the fields listed at the end of this"
        " message; kubectl get deployment -o yaml --show-managed-fields shows who set them",
    ),
    _refusal(
        r"ValidatingAdmissionPolicy '(?P<name>[^']{1,253})'",
        "ValidatingAdmissionPolicy {name} denied the request; meet its demands, or change the"
        " policy",
    ),
    _refusal(
        r'failed calling webhook "(?P<name>[^"]{1,253})"',
        "the API server cannot call webhook {name}; restore its service, or delete the"
        " ValidatingWebhookConfiguration or MutatingWebhookConfiguration that contains it",
    ),
    _refusal(
        r'admission webhook "(?P<name>[^"]{1,253})" denied',
        "webhook {name} denied the request; meet its demands, or contact its owner",
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
"""Known rejections; the first whose pattern matches applies."""


def explain_rejection(text: str) -> str:
    """Return the API server's text after its cause and remedy, if they are known."""
    for refusal in _REFUSALS:
        match = refusal.pattern.search(text)
        if match is not None:
            return f"{refusal.sentence.format(**match.groupdict())}: {text}"
    return text
