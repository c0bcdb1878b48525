"""MCPProxies that must be refused, and where: by the API server, or first by our own parser."""

from typing import Any

from tests.support.bad_authentication import AUTHENTICATION
from tests.support.bad_exposure import EXPOSURE
from tests.support.bad_values import Bad, Manifest, bad, ref
from tests.support.builders import a_backend, a_manifest


def backend(wrong: str, field: str = "", /, **fields: Any) -> Bad:
    """A proxy whose first backend is wrong at `field`."""
    path = f"spec.backends[0].{field}" if field else "spec.backends[0]"
    return bad(wrong, a_manifest(backends=[a_backend(**fields)]), path)


def spec(wrong: str, field: str, /, **fields: Any) -> Bad:
    """A proxy whose spec is wrong at `field`."""
    return bad(wrong, a_manifest(**fields), f"spec.{field}")


def header(wrong: str, field: str = "", /, **fields: Any) -> Bad:
    """A proxy whose first header is wrong at `field`."""
    return backend(wrong, f"headers[0]{field}", headers=[fields])


def without(field: str) -> Manifest:
    """A manifest that lacks one of the fields at its root."""
    return {key: value for key, value in a_manifest().items() if key != field}


WEB, HERE = "http://example.com/mcp", {"name": "weather", "port": 80}
RUN = {"command": "serve"}
TOKEN = {"name": "Authorization", "value": "x"}
MANY = [f"x-{number}" for number in range(33)]

BACKENDS = [
    spec("no backends", "backends", backends=[]),
    spec("65 backends", "backends", backends=[a_backend(f"b{i}") for i in range(65)]),
    spec("two backends of one name", "backends", backends=[a_backend(), a_backend(prefix="x")]),
    spec(
        "two backends without prefix",
        "backends",
        backends=[a_backend("a", prefix=""), a_backend("b", prefix="")],
    ),
    spec(
        "the same prefix twice",
        "backends",
        backends=[a_backend("a", prefix="x"), a_backend("b", prefix="x")],
    ),
    spec(
        "a prefix that is another's name",
        "backends",
        backends=[a_backend("a"), a_backend("b", prefix="a")],
    ),
    bad("a backend without a name", a_manifest(backends=[{"url": WEB}]), "spec.backends[0].name"),
    backend("two sources", url=WEB, service=HERE),
    backend("three sources", url=WEB, service=HERE, stdio=RUN),
    bad("no source", a_manifest(backends=[{"name": "weather"}]), "spec.backends[0]"),
    backend("a name in upper case", "name", name="Weather"),
    backend("a name with an underscore", "name", name="my_weather"),
    backend("a name of 64 characters", "name", name="a" * 64),
    backend("a prefix with a dot", "prefix", prefix="a.b"),
    backend("a prefix of 33 characters", "prefix", prefix="a" * 33),
    backend("an unknown transport", "transport", transport="websocket"),
    backend("an unknown protocol", "protocol", protocol="2020-01-01"),
    backend("an unknown session mode", "session.mode", session={"mode": "Shared"}),
    backend("optional as text", "optional", optional="yes"),
]

SOURCES = [
    backend("a url that is not http", "url", url="ftp://example.com/mcp"),
    backend("a url with a user", "url", url="https://me:secret@example.com/mcp"),
    backend("a url without host", "url", url="http:///mcp"),
    backend("a url with a fragment", "url", url="http://example.com/mcp#here"),
    backend("a url with a space", "url", url="http://example.com/m cp"),
    backend("service port 0", "service.port", service={"name": "w", "port": 0}),
    backend("service port 65536", "service.port", service={"name": "w", "port": 65536}),
    backend("service port as text", "service.port", service={"name": "w", "port": "80"}),
    backend("a service without port", "service.port", service={"name": "w"}),
    backend("a service's name with a dot", "service.name", service={"name": "a.b", "port": 1}),
    backend("a path without slash", "service.path", service={**HERE, "path": "mcp"}),
    backend("an empty command", "stdio.command", stdio={"command": ""}),
    backend("129 arguments", "stdio.args", stdio={**RUN, "args": ["x"] * 129}),
    backend("stdio with headers", stdio=RUN, headers=[TOKEN]),
    backend("stdio with an empty list of headers", stdio=RUN, headers=[]),
    backend("stdio with headers of clients", stdio=RUN, forwardHeaders=["Authorization"]),
    backend("a header given and of clients", headers=[TOKEN], forwardHeaders=["AUTHORIZATION"]),
    backend("bare names of another kind", "names.bare", names={"bare": "Yes"}),
    backend("33 headers of clients", "forwardHeaders", forwardHeaders=MANY),
    backend("a header of clients twice", "forwardHeaders", forwardHeaders=["X-A", "x-a"]),
    backend("all headers of clients", "forwardHeaders[0]", forwardHeaders=["X A"]),
    backend("a header of HTTP's of clients", "forwardHeaders", forwardHeaders=["Host"]),
    backend("a header of MCP's of clients", "forwardHeaders", forwardHeaders=["Mcp-Param-City"]),
    backend("tls without https", tls={"serverName": "a"}),
    backend("tls for a program", stdio=RUN, tls={"serverName": "a"}),
    backend(
        "authorities that verify nothing",
        "tls",
        url="https://example.com/mcp",
        tls={"caFrom": ref(secret="ca"), "insecureSkipVerify": True},
    ),
    backend(
        "a server's name with a port",
        "tls.serverName",
        url="https://example.com/mcp",
        tls={"serverName": "example.com:443"},
    ),
    backend(
        "a client certificate from nowhere",
        "tls.clientCertificateFrom.secretRef",
        url="https://example.com/mcp",
        tls={"clientCertificateFrom": {}},
    ),
    backend("stdio with a transport", stdio=RUN, transport="sse"),
    backend(
        "a variable's name with a dash",
        "stdio.env[0].name",
        stdio={**RUN, "env": [{"name": "MY-VAR", "value": "1"}]},
    ),
    backend(
        "a variable without value",
        "stdio.env[0]",
        stdio={**RUN, "env": [{"name": "MY_VAR"}]},
    ),
    backend(
        "the same variable twice",
        "stdio.env",
        stdio={**RUN, "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]},
    ),
]

HEADERS = [
    header("a header with value and valueFrom", **TOKEN, valueFrom=ref(secret="s")),
    header("a header without value", name="Authorization"),
    header("a header's name with a space", ".name", name="X Y", value="1"),
    header("a header's value of two lines", ".value", name="X", value="a\r\nEvil: b"),
    header("a header of the protocol", ".name", name="Mcp-Session-Id", value="x"),
    header("a header of HTTP", ".name", name="content-length", value="0"),
    header(
        "valueFrom two sources",
        ".valueFrom",
        name="X",
        valueFrom=ref(secret="s", config_map="c"),
    ),
    header("valueFrom nothing", ".valueFrom", name="X", valueFrom={}),
    header(
        "a key with a slash",
        ".valueFrom.secretKeyRef.key",
        name="X",
        valueFrom={"secretKeyRef": {"name": "s", "key": "../k"}},
    ),
    header(
        "a key that is the directory above",
        ".valueFrom.secretKeyRef.key",
        name="X",
        valueFrom={"secretKeyRef": {"name": "s", "key": ".."}},
    ),
    header(
        "a ConfigMap's name with two dots",
        ".valueFrom.configMapKeyRef.name",
        name="X",
        valueFrom=ref(config_map="a..b"),
    ),
    header(
        "a Secret's name in upper case",
        ".valueFrom.secretKeyRef.name",
        name="X",
        valueFrom=ref(secret="Secret"),
    ),
    backend("the same header twice", "headers", headers=[TOKEN, TOKEN]),
    backend(
        "the same header in two spellings",
        "headers",
        headers=[TOKEN, {**TOKEN, "name": "authorization"}],
    ),
]

TIMES = [
    backend("a duration in words", "timeouts.connect", timeouts={"connect": "soon"}),
    backend("a duration without unit", "timeouts.request", timeouts={"request": "5"}),
    backend("a negative duration", "timeouts.idle", timeouts={"idle": "-5s"}),
    backend("a nanosecond", "timeouts.connect", timeouts={"connect": "0.000001ms"}),
    backend("a duration of zero", "timeouts.initialize", timeouts={"initialize": "0s"}),
    spec("a duration as number", "cache.ttl", cache={"ttl": 300}),
    spec("a ttl over 24h", "cache.ttl", cache={"ttl": "24h1s"}),
    spec("an interval of zero", "health.interval", health={"interval": "0s"}),
    spec("unhealthyAfter 0", "health.unhealthyAfter", health={"unhealthyAfter": 0}),
    spec("healthyAfter 101", "health.healthyAfter", health={"healthyAfter": 101}),
]

RUNNING = [
    spec("negative replicas", "replicas", replicas=-1),
    spec("replicas as text", "replicas", replicas="2"),
    spec("1001 replicas", "replicas", replicas=1001),
    spec("suspended as text", "suspend", suspend="yes"),
    spec("an empty image", "image", image=""),
    spec("an image with a space", "image", image="my image"),
    spec("an unknown pull policy", "imagePullPolicy", imagePullPolicy="Sometimes"),
    spec("a pull secret twice", "imagePullSecrets", imagePullSecrets=[{"name": "s"}] * 2),
    spec("an unknown kind of Service", "service.type", service={"type": "ExternalName"}),
    spec("the Service's port 0", "service.port", service={"port": 0}),
    spec("no quantity", "resources.limits.memory", resources={"limits": {"memory": "much"}}),
    spec("a negative quantity", "resources.limits.cpu", resources={"limits": {"cpu": "-1"}}),
    spec("a negative number of bytes", "resources", resources={"limits": {"memory": -1}}),
    spec(
        "a request above its limit",
        "resources",
        resources={"requests": {"memory": "1Gi"}, "limits": {"memory": "512Mi"}},
    ),
    spec("an empty host", "allowedHosts[0]", allowedHosts=[""]),
    spec("a url as host", "allowedHosts[0]", allowedHosts=["https://tools.example.com"]),
    spec("a star inside a host", "allowedHosts[0]", allowedHosts=["tools.*.com"]),
    spec("an origin without scheme", "allowedOrigins[0]", allowedOrigins=["app.example.com"]),
    spec("an origin with a path", "allowedOrigins[0]", allowedOrigins=["http://a.com/app"]),
    spec("an origin of no page", "allowedOrigins[0]", allowedOrigins=["null"]),
    spec("an origin with a user", "allowedOrigins[0]", allowedOrigins=["http://a.com@b.com"]),
    spec("an extension twice", "extensions.deny", extensions={"deny": ["a/b", "a/b"]}),
    spec("an extension without a name", "extensions.deny[0]", extensions={"deny": ["a/"]}),
    spec("a user of MCP", "principalFrom.header", principalFrom={"header": "Mcp-User"}),
    spec("a user in credentials", "principalFrom.header", principalFrom={"header": "Cookie"}),
    spec("a user in no header", "principalFrom.header", principalFrom={"header": "a b"}),
]

CPU_ONLY = {"requests": {"cpu": 1}}

SCALING = [
    spec("replicas and autoscaling", "autoscaling", replicas=2, autoscaling={"maxReplicas": 3}),
    spec("no replicas and autoscaling", "autoscaling", replicas=0, autoscaling={"maxReplicas": 3}),
    spec("autoscaling without a maximum", "autoscaling.maxReplicas", autoscaling={}),
    spec("a maximum of 0", "autoscaling.maxReplicas", autoscaling={"maxReplicas": 0}),
    spec(
        "a minimum of 0",
        "autoscaling.minReplicas",
        autoscaling={"minReplicas": 0, "maxReplicas": 3},
    ),
    spec(
        "a minimum above the maximum",
        "autoscaling",
        autoscaling={"minReplicas": 4, "maxReplicas": 3},
    ),
    spec(
        "a target of 0 percent",
        "autoscaling.targetCPUUtilizationPercentage",
        autoscaling={"maxReplicas": 3, "targetCPUUtilizationPercentage": 0},
    ),
    spec(
        "a spelling that Kubernetes does not have",
        "autoscaling.targetCpuUtilizationPercentage",
        autoscaling={"maxReplicas": 3, "targetCpuUtilizationPercentage": 50},
    ),
    spec(
        "scaling down after two hours",
        "autoscaling.scaleDownAfter",
        autoscaling={"maxReplicas": 3, "scaleDownAfter": "2h"},
    ),
    spec(
        "autoscaling by a resource that is not requested",
        "autoscaling",
        autoscaling={"maxReplicas": 3},
        resources={"requests": {"memory": "1Gi"}},
    ),
    spec(
        "autoscaling by memory that is not requested",
        "autoscaling",
        autoscaling={"maxReplicas": 3, "targetMemoryUtilizationPercentage": 50},
        resources=CPU_ONLY,
    ),
    spec("a budget of nothing", "disruptionBudget", disruptionBudget={}),
    spec(
        "two budgets",
        "disruptionBudget",
        disruptionBudget={"minAvailable": 1, "maxUnavailable": 1},
    ),
    spec(
        "a negative budget",
        "disruptionBudget.minAvailable",
        disruptionBudget={"minAvailable": -1},
    ),
    spec(
        "more than all pods",
        "disruptionBudget.maxUnavailable",
        disruptionBudget={"maxUnavailable": "101%"},
    ),
    spec(
        "a number as text",
        "disruptionBudget.maxUnavailable",
        disruptionBudget={"maxUnavailable": "1"},
    ),
]

CATALOG = [
    spec("a hash that is too short", "catalog.approvedHash", catalog={"approvedHash": "a" * 63}),
    spec("a hash in capitals", "catalog.approvedHash", catalog={"approvedHash": "A" * 64}),
    spec("another word for a drift", "catalog.onDrift", catalog={"onDrift": "Block"}),
    spec(
        "nothing that tells what to withhold",
        "catalog.onDrift",
        catalog={"approvedHash": "a" * 64, "onDrift": "Withhold"},
    ),
    spec(
        "a digest that is none",
        "catalog.approved.tools",
        catalog={"approved": {"tools": {"weather_now": "yes"}}},
    ),
    spec(
        "a kind of component that there is not",
        "catalog.approved.tool",
        catalog={"approved": {"tool": {"weather_now": "a" * 64}}},
    ),
]

OBJECTS = [
    bad("no spec", without("spec"), "spec"),
    bad("a misspelt field", a_manifest(cahce={"ttl": "5s"}), "spec.cahce"),
    bad("a field in snake case", a_manifest(image_pull_policy="Never"), "spec.image_pull_policy"),
    backend("a misspelt field of a backend", "header", header=[]),
    bad("a misspelt field at the root", {**a_manifest(), "specs": {}}, "specs"),
    bad("a name too long for its children", a_manifest("a" * 64), "metadata.name"),
    bad("a name with a dot", a_manifest("my.tools"), "metadata.name"),
    bad("a name that begins with a digit", a_manifest("1tools"), "metadata.name"),
    bad(
        "a version that is not served",
        {**a_manifest(), "apiVersion": "mcpproxy.dev/v1"},
        "apiVersion",
        'MCPProxy in version "v1" cannot be handled',
    ),
]

ONLY_FOR_THE_PARSER = [
    bad(
        "a url with port 99999",
        a_manifest(backends=[a_backend(url="http://example.com:99999/mcp")]),
        "spec.backends[0].url",
        None,
    ),
    bad(
        "a url with port 0",
        a_manifest(backends=[a_backend(url="http://example.com:0/mcp")]),
        "spec.backends[0].url",
        None,
    ),
    bad(
        "a url with half an address",
        a_manifest(backends=[a_backend(url="http://[::1/mcp")]),
        "spec.backends[0].url",
        None,
    ),
    bad(
        "a hash that is not that of the approved components",
        a_manifest(
            catalog={"approved": {"tools": {"weather_now": "a" * 64}}, "approvedHash": "a" * 64}
        ),
        "spec.catalog.approvedHash: the hash of approved is ",
        None,
    ),
]

ALL = [
    *BACKENDS,
    *SOURCES,
    *HEADERS,
    *TIMES,
    *RUNNING,
    *SCALING,
    *CATALOG,
    *OBJECTS,
    *AUTHENTICATION,
    *EXPOSURE,
    *ONLY_FOR_THE_PARSER,
]
