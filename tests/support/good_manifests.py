"""MCPProxies that must be taken, at the edges of what is allowed."""

from mcpproxy.api.catalog_digests import approved_hash
from tests.support.bad_values import ref
from tests.support.builders import a_backend, a_manifest
from tests.support.every_field import AUTOSCALED, EVERY_FIELD

APPROVED = {"tools": {"weather_now": "a" * 64}}

GOOD = {
    "one backend": a_manifest(),
    "every field": EVERY_FIELD,
    "autoscaled": AUTOSCALED,
    "an autoscaler without a word": a_manifest(autoscaling={"maxReplicas": 1}),
    "an autoscaler by memory alone": a_manifest(
        autoscaling={"maxReplicas": 3, "targetMemoryUtilizationPercentage": 80},
        resources={"requests": {"memory": "1Gi"}},
    ),
    "64 backends": a_manifest(backends=[a_backend(f"b{i}") for i in range(64)]),
    "the longest names": a_manifest("a" * 63, backends=[a_backend("b" * 63)]),
    "as many headers as there may be": a_manifest(
        backends=[
            a_backend(f"b{i}", headers=[{"name": f"{n:x>64}", "value": "1"} for n in range(32)])
            for i in range(64)
        ]
    ),
    "a gateway that names the user": a_manifest(principalFrom={"header": "X-Auth-Request-User"}),
    "any host and origin": a_manifest(
        allowedHosts=["*", "tools:8080", "[fd00::1]:80", "my_tools"],
        allowedOrigins=[
            "*",
            "https://*.example.com",
            "vscode-webview://a1",
            "http://localhost:3000",
        ],
    ),
    "no replicas": a_manifest(replicas=0),
    "a catalog without a word": a_manifest(catalog={}),
    "a catalog of which nothing is approved": a_manifest(
        catalog={"approved": {}, "onDrift": "Withhold"}
    ),
    "an approved catalog and its hash": a_manifest(
        catalog={"approved": APPROVED, "approvedHash": approved_hash(APPROVED)}
    ),
    "names taken crosswise as prefixes": a_manifest(
        backends=[a_backend("a", prefix="b"), a_backend("b", prefix="a")]
    ),
    "a Service with certificates": a_manifest(
        backends=[
            a_backend(service={"name": "w", "port": 443}, tls={"caFrom": ref(config_map="ca")}),
            a_backend("b", service={"name": "w", "port": 8443}, tls={}),
        ]
    ),
    "as many issuers and keys as there may be": a_manifest(
        publicUrl="https://mcp.example.com",
        authentication={
            "jwt": [
                {
                    "issuer": f"http://i{i}.sso.svc.cluster.local/{'x' * 90}",
                    "insecureHttp": True,
                    "audiences": [f"{a:x>100}" for a in range(16)],
                }
                for i in range(16)
            ],
            "apiKeys": [
                {"name": f"k{i}", "hashFrom": ref(secret="agent-keys")} for i in range(256)
            ],
        },
    ),
    "audiences without a public URL": a_manifest(
        authentication={"jwt": [{"issuer": "https://i.example", "audiences": ["a"]}]}
    ),
    "an issuer on this machine": a_manifest(
        publicUrl="http://tools.team.svc/mcp",
        authentication={"jwt": [{"issuer": "http://[::1]:8080", "insecureHttp": True}]},
    ),
    "credentials passed on without authentication": a_manifest(
        backends=[a_backend(forwardHeaders=["Authorization"])]
    ),
    "an Ingress with all its fields": a_manifest(
        publicUrl="http://Tools.example.com/~team/a..b/v1.2/",
        expose={
            "ingress": {
                "className": "nginx",
                "tlsSecretName": "mcp-tls",
                "annotations": {"cert-manager.io/cluster-issuer": "letsencrypt"},
            }
        },
        networkPolicy={"clients": [{"podSelector": {}}]},
    ),
    "an Ingress without a word": a_manifest(
        publicUrl="https://mcp.example.com", expose={"ingress": {}}
    ),
    "an address of IPv6": a_manifest(backends=[a_backend(url="http://[::1]:8080/mcp")]),
}
