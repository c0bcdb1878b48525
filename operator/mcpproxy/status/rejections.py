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
    _refusal(
        r"must be less than or equal to (?P<what>[\w-]{1,30}) limit",
        "the request of {what} exceeds the limit, which a LimitRange of the namespace may set; set"
        " both in spec.resources",
    ),
    _refusal(
        r'ConfigMap "[^"]{1,253}" is invalid: \S{0,40}: Too long',
        "the configuration of the pods exceeds 1 MiB, the maximum of a ConfigMap; shorten"
        " spec.backends, such as the values of stdio.env, or divide the backends among several"
        " MCPProxies",
    ),
    _refusal(
        r"(?P<field>\.spec\.rules\[\d+\]\.\w{1,40}): field not declared in schema",
        "the installed Gateway API has no {field} of HTTPRoutes; install version 1.2 or later of"
        " its standard channel",
    ),
    _refusal(
        r"(?P<field>spec\.template\.[^\s:]{1,200}): "
        r"(?:Invalid|Required|Unsupported|Duplicate|Too |Forb)",
        "{field} of the Deployment comes from spec.podTemplate, spec.resources or spec.backends;"
        " correct it there",
    ),
    _refusal(
        r'Service "[^"]{1,253}" is invalid: (?P<field>[^\s:]{1,200}):',
        "{field} of the Service comes from spec.service; correct it there",
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
