"""MCPProxies whose authorization must be refused, and where; see `bad_manifests`."""

from typing import Any

from tests.support.bad_manifests import spec
from tests.support.bad_values import Bad, Manifest, bad
from tests.support.builders import a_backend, a_manifest

ANYONE = {"any": True}
ALL_OF_IT = [{"backends": ["*"]}]


def rule(**fields: Any) -> dict[str, Any]:
    """A rule that allows everyone everything, unless said otherwise."""
    return {"name": "rule", "who": ANYONE, "may": ALL_OF_IT, **fields}


def proxy_with(*rules: dict[str, Any], **fields: Any) -> Manifest:
    """A proxy with these rules."""
    return a_manifest(authorization={"rules": list(rules), **fields})


def wrong_rule(wrong: str, field: str, /, **fields: Any) -> Bad:
    """A proxy whose first rule is wrong at `field`."""
    path = f"authorization.rules[0].{field}" if field else "authorization.rules[0]"
    return spec(wrong, path, authorization={"rules": [rule(**fields)]})


def condition(wrong: str, when: str, says: str) -> Bad:
    """A proxy whose condition only the parser can refuse."""
    path = f"spec.authorization.rules[0].when: {says}"
    return bad(wrong, proxy_with(rule(when=when)), path, None)


def external(wrong: str, field: str, /, **fields: Any) -> Bad:
    """A proxy whose external decision is wrong at `field`."""
    decision = {"url": "http://opa.policy/v1/data/mcp/allow", **fields}
    return spec(wrong, f"authorization.external.{field}", authorization={"external": decision})


_EVERYWHERE = [
    spec("another default", "authorization.default", authorization={"default": "Ask"}),
    spec(
        "65 rules",
        "authorization.rules",
        authorization={"rules": [rule(name=f"r{i}") for i in range(65)]},
    ),
    spec("two rules of one name", "authorization.rules", authorization={"rules": [rule(), rule()]}),
    wrong_rule("a rule for nobody", "who", who={}),
    wrong_rule("a rule for nobody, in words", "who", who={"anonymous": False, "any": False}),
    wrong_rule("a rule for an empty list of groups", "who.groups", who={"groups": []}),
    wrong_rule("a rule for everybody and a group", "who", who={"any": True, "groups": ["dev"]}),
    wrong_rule("a rule for everybody twice", "who", who={"any": True, "anonymous": True}),
    wrong_rule(
        "a ServiceAccount without namespace",
        "who.serviceAccounts[0].namespace",
        who={"serviceAccounts": [{"name": "agent"}]},
    ),
    wrong_rule("a rule that allows nothing", "may", may=[]),
    wrong_rule("a grant of nothing", "may[0]", may=[{}]),
    wrong_rule("annotations of nothing", "may[0].annotations", may=[{"annotations": {}}]),
    wrong_rule(
        "annotations of prompts",
        "may[0]",
        may=[{"prompts": ["*"], "annotations": {"readOnly": True}}],
    ),
    wrong_rule("an empty pattern", "may[0].tools[0]", may=[{"tools": [""]}]),
    wrong_rule("a scope of a rule with a space", "scopes[0]", scopes=["tools read"]),
    wrong_rule("a rule without a name", "name", name=""),
    wrong_rule("a condition of 1025 characters", "when", when="true" + " " * 1021),
    spec(
        "a rule for a group without authentication",
        "authorization",
        authorization={"rules": [rule(who={"groups": ["dev"]})]},
    ),
    external("a decision of another protocol", "url", url="grpc://opa.policy"),
    external("a decision that takes two minutes", "timeout", timeout="2m"),
    external("a decision that fails otherwise", "onFailure", onFailure="Retry"),
]

ONLY_FOR_THE_PARSER = [
    condition("a condition that ends too early", "args.repo ==", "is no CEL expression: line 1,"),
    condition("a condition on other variables", "arguments.repo == 'a'", "reads arguments"),
    condition("a condition with other functions", "args.repo.lower() == 'a'", "calls lower"),
    condition(
        "a condition with a loop in a loop",
        "args.a.all(x, args.b.exists(y, y == x))",
        "has exists inside of another macro",
    ),
    condition(
        "a condition with a loop in a loop behind a comment",
        "args.a.//c\nall(x, args.b.//c\nexists(y, y == x))",
        "has exists inside of another macro",
    ),
    condition(
        "a condition with a loop in a loop after a raw text",
        "args.a == r'\\' && args.a.all(x, args.b.exists(y, y == 'b'))",
        "has exists inside of another macro",
    ),
    condition(
        "a condition with a loop over a variable that is taken",
        "args.a.all(claims, true)",
        "has a macro with the variable claims, which is taken",
    ),
    condition(
        "a condition whose lists grow with each loop",
        "args.a.map(x, [x, x]).map(x, [x, x]).size() > 0",
        "has map more than once",
    ),
    condition(
        "a condition with many loops",
        " && ".join(["args.a.all(x, true)"] * 9),
        "has 9 macros",
    ),
    *(
        bad(
            f"a token for the API server: {audience}",
            a_manifest(backends=[a_backend(auth={"serviceAccount": {"audience": audience}})]),
            "spec.backends[0].auth.serviceAccount.audience: is an audience of the API server",
            None,
        )
        for audience in (
            "https://kubernetes.default.svc",
            "https://kubernetes.default.svc.cluster.local",
            "https://Kubernetes.Default.svc.cluster.local:443/",
            "kubernetes.default.svc",
            "kubernetes",
            "api",
        )
    ),
]

ALL = [*_EVERYWHERE, *ONLY_FOR_THE_PARSER]
