"""Random rules and callers, for properties."""

from typing import Any

from hypothesis import strategies as st

from mcpproxy.proxy.core.identity import ANONYMOUS, Identity
from tests.proxy.authorization.stage import token

GROUPS = ("dev", "ops")
CALLERS: tuple[Identity, ...] = (
    ANONYMOUS,
    token("alice", groups=["dev"]),
    token("bob", groups=["dev", "ops"], scopes=["write"]),
    Identity("serviceAccount", issuer="k", subject="x", service_account=("agents", "reader")),
)
_WHO = st.sampled_from(
    [
        {"any": True},
        {"anonymous": True},
        {"groups": ["dev"]},
        {"groups": ["ops"]},
        {"subjects": ["alice"]},
        {"serviceAccounts": [{"namespace": "agents", "name": "r*"}]},
    ]
)
_BACKENDS = st.sampled_from([["*"], ["a"], ["b"], ["?"], ["c"]])
_PATTERNS = {
    "tools": ["*", "a_*", "b_get_*", "*_admin", "a_set_a", "a_get_?", "nothing"],
    "prompts": ["*", "a_*", "*_ask", "b_other", "nothing"],
    "resources": [
        "*",
        "file://a//pub/*",
        "file://*",
        "*passwd",
        "skill://a/*",
        "*admin/SKILL.md",
        "nothing",
    ],
    "resourceTemplates": ["*", "note://a/{id}", "note://*", "off://b/*", "nothing"],
}
_ANNOTATIONS = st.fixed_dictionaries(
    {},
    optional={
        name: st.booleans() for name in ("readOnly", "destructive", "idempotent", "openWorld")
    },
).filter(bool)


@st.composite
def grants(draw: st.DrawFn) -> dict[str, Any]:
    """An entry of `may`."""
    grant: dict[str, Any] = {}
    if draw(st.booleans()):
        grant["backends"] = draw(_BACKENDS)
    for kind, patterns in _PATTERNS.items():
        if draw(st.integers(0, 2)) == 0:
            chosen = st.lists(st.sampled_from(patterns), min_size=1, max_size=2)
            grant[kind] = draw(chosen)
    only_tools = not grant.keys() & {"prompts", "resources", "resourceTemplates"}
    if ("tools" in grant or only_tools) and draw(st.integers(0, 3)) == 0:
        grant["annotations"] = draw(_ANNOTATIONS)
    return grant or {"backends": ["*"]}


@st.composite
def authorizations(draw: st.DrawFn) -> dict[str, Any]:
    """A `spec.authorization` without conditions."""
    rules = []
    for number in range(draw(st.integers(0, 4))):
        rule = {
            "name": f"r{number}",
            "who": draw(_WHO),
            "may": draw(st.lists(grants(), min_size=1, max_size=2)),
        }
        if draw(st.integers(0, 3)) == 0:
            rule["scopes"] = ["write"]
        rules.append(rule)
    return {"default": draw(st.sampled_from(["Deny", "Allow"])), "rules": rules}
