"""Two MCPProxies that together have the fields that change objects in the cluster."""

from typing import Any

from tests.support.bad_values import ref
from tests.support.builders import a_backend, a_manifest

EVERY_FIELD: dict[str, Any] = a_manifest(
    backends=[
        a_backend(
            url="https://weather.example.com:8443/mcp?tenant=a",
            transport="streamable-http",
            protocol="2026-07-28",
            headers=[
                {"name": "Authorization", "valueFrom": ref(secret="weather-token")},
                {"name": "X-Region", "valueFrom": ref(config_map="weather")},
                {"name": "X-Tenant", "value": "a"},
            ],
            forwardHeaders=["X-Request-Id", "traceparent"],
            names={"bare": "Accept"},
            tls={
                "caFrom": ref(config_map="authorities"),
                "clientCertificateFrom": {"secretRef": {"name": "weather-client"}},
                "serverName": "weather.internal",
            },
            timeouts={"connect": "1s", "initialize": "1m30s", "request": "0.5h", "idle": "24h"},
            session={"mode": "Reused", "stateless": True},
            cache={"ttl": "0s"},
            prefix="",
            optional=True,
        ),
        a_backend(
            "calendar",
            service={"name": "calendar", "namespace": "1team", "port": 8080, "path": "/"},
            session={"mode": "PerClient"},
        ),
        a_backend(
            "notes",
            stdio={
                "command": "python",
                "args": ["-m", "notes_server"],
                "env": [
                    {"name": "NOTES_TOKEN", "valueFrom": ref(secret="notes-token")},
                    {"name": "NOTES_DIR", "value": "/tmp/notes"},
                ],
                "cwd": "/srv",
            },
            prefix="my_notes",
        ),
    ],
    cache={"ttl": "5m"},
    catalog={"approvedHash": "0123456789abcdef" * 4, "onDrift": "Report"},
    session={"mode": "Isolated"},
    names={"onClash": "Fail"},
    limits={"rules": [{"name": "each", "calls": 600, "window": "1m", "burst": 50}]},
    replicas=2,
    image="registry.example.com/mcpproxy-runtime:1.2.3",
    imagePullPolicy="IfNotPresent",
    imagePullSecrets=[{"name": "registry-b"}, {"name": "registry-a"}],
    resources={"requests": {"cpu": "250m", "memory": "128Mi"}, "limits": {"cpu": 1}},
    suspend=False,
    monitoring={
        "podMonitor": {
            "labels": {"release": "prometheus"},
            "interval": "30s",
            "scrapeTimeout": "500ms",
        }
    },
    networkPolicy={
        "clients": [
            {
                "namespaceSelector": {"matchLabels": {"team": "agents"}},
                "podSelector": {
                    "matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["c", "b"]}]
                },
            },
            {"podSelector": {}},
            {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.2.0.0/16", "10.1.0.0/16"]}},
        ],
        "scrapers": [{"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}],
        "urlAddresses": [{"cidr": "203.0.113.0/24"}, {"cidr": "2001:db8::/32"}],
        "egress": [
            {"ports": [{"port": 5353, "protocol": "UDP"}, {"port": 443}]},
            {"to": [{"ipBlock": {"cidr": "192.0.2.1/32"}}]},
        ],
    },
    disruptionBudget={"minAvailable": 1},
    podTemplate={
        "labels": {"team": "blue", "example.com/tier": ""},
        "annotations": {
            "example.com/owner": "platform",
            "b": "2",
            "container.apparmor.security.beta.kubernetes.io/mcpproxy": "localhost/agents",
        },
        "nodeSelector": {"kubernetes.io/arch": "amd64", "disk": "fast"},
        "tolerations": [
            {"key": "dedicated", "value": "agents", "effect": "NoExecute", "tolerationSeconds": 60},
            {"operator": "Exists", "effect": "NoSchedule"},
        ],
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "cpus", "operator": "Gt", "values": ["8"]}]},
                        {
                            "matchFields": [
                                {"key": "metadata.name", "operator": "In", "values": ["node-1"]}
                            ]
                        },
                    ]
                },
            },
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "weight": 100,
                        "podAffinityTerm": {
                            "topologyKey": "kubernetes.io/hostname",
                            "labelSelector": {
                                "matchLabels": {"noisy": "true"},
                                "matchExpressions": [
                                    {"key": "tier", "operator": "In", "values": ["b", "a"]},
                                    {"key": "old", "operator": "DoesNotExist"},
                                ],
                            },
                            "namespaces": ["team-b", "team-a"],
                        },
                    }
                ]
            },
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "topology.kubernetes.io/zone",
                "whenUnsatisfiable": "DoNotSchedule",
                "minDomains": 2,
            },
            {
                "maxSkew": 2,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
            },
        ],
        "priorityClassName": "agents",
        "runtimeClassName": "gvisor",
        "schedulerName": "default-scheduler",
        "serviceAccountName": "agents",
        "securityContext": {
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "fsGroup": 10001,
            "supplementalGroups": [10003, 10002],
            "seLinuxOptions": {"level": "s0:c123,c456", "type": "container_t"},
        },
        "terminationGracePeriodSeconds": 120,
    },
    service={
        "type": "LoadBalancer",
        "port": 8000,
        "annotations": {"b.com/scope": "in", "a.com/x": "1"},
    },
    health={"interval": "1s", "timeout": "500ms", "unhealthyAfter": 3, "healthyAfter": 2},
    allowedHosts=["tools.example.com", "*.example.org"],
    allowedOrigins=["https://app.example.com"],
    principalFrom={"header": "X-Auth-Request-User"},
    extensions={"deny": ["io.modelcontextprotocol/ui", "com.example/odd"]},
    authorization={
        "default": "Deny",
        "rules": [
            {
                "name": "developers",
                "who": {
                    "issuers": ["https://login.example.com/realms/agents"],
                    "subjects": ["alice"],
                    "groups": ["dev", "ops"],
                    "clients": ["desktop"],
                    "serviceAccounts": [{"namespace": "agents", "name": "*"}],
                    "apiKeys": ["n8n"],
                    "anonymous": True,
                },
                "scopes": ["tools:read"],
                "may": [
                    {
                        "backends": ["weather"],
                        "tools": ["get_*"],
                        "annotations": {
                            "readOnly": True,
                            "destructive": False,
                            "idempotent": True,
                            "openWorld": False,
                        },
                    },
                    {"prompts": ["*"], "resources": ["file://*"], "resourceTemplates": ["a?"]},
                ],
                "when": 'args.repo.startsWith("acme/") && claims.sub != tool.backend',
            },
            {"name": "all", "who": {"any": True}, "may": [{"tools": ["calendar_now"]}]},
        ],
        "external": {
            "url": "http://opa.policy/v1/data/mcp/allow",
            "timeout": "200ms",
            "onFailure": "Allow",
        },
    },
)

AUTOSCALED: dict[str, Any] = a_manifest(
    autoscaling={
        "minReplicas": 2,
        "maxReplicas": 10,
        "targetCPUUtilizationPercentage": 70,
        "targetMemoryUtilizationPercentage": 90,
        "scaleDownAfter": "1m30s",
    },
    resources={"requests": {"cpu": "250m"}, "limits": {"memory": "1Gi"}},
    disruptionBudget={"maxUnavailable": "25%"},
    catalog={
        "approved": {
            "tools": {"weather_now": "a" * 64, "weather_later": "b" * 64},
            "prompts": {"weather_ask": "c" * 64},
            "resources": {"file://weather//map": "d" * 64},
            "resourceTemplates": {"city://weather/{name}": "e" * 64},
        },
        "onDrift": "Withhold",
    },
    publicUrl="https://mcp.example.com:8443/tools",
    expose={
        "parentRefs": [
            {"name": "public", "namespace": "gateways", "sectionName": "https", "port": 443},
            {"name": "public", "namespace": "gateways", "sectionName": "internal"},
            {"name": "local"},
        ]
    },
    authentication={
        "mode": "Optional",
        "jwt": [
            {
                "issuer": "https://login.example.com/realms/agents",
                "audiences": ["tools", "https://mcp.example.com/tools"],
                "jwksUrl": "https://login.example.com/keys?p=a",
                "caFrom": ref(config_map="authorities"),
                "claims": {"subject": "sub", "groups": "a.b", "client": "azp", "scopes": "scp"},
            },
            {"issuer": "http://keycloak.sso.svc:8080/realms/bots", "insecureHttp": True},
        ],
        "serviceAccounts": {"audience": "tools.mcpproxy.dev"},
        "apiKeys": [
            {"name": "n8n", "hashFrom": ref(secret="agent-keys")},
            {"name": "cron", "hashFrom": ref(secret="agent-keys")},
        ],
        "resourceMetadata": {
            "scopesSupported": ["mcp:tools", "a"],
            "documentation": "https://wiki.example.com/mcp",
        },
    },
    backends=[
        a_backend(forwardHeaders=["authorization"], auth={"passthrough": True}),
        a_backend("plain", auth={}),
        a_backend(
            "crm",
            auth={
                "refreshBefore": "2m",
                "clientCredentials": {
                    "issuer": "https://login.crm.example",
                    "caFrom": ref(config_map="authorities"),
                    "clientId": "mcpproxy",
                    "clientSecretFrom": ref(secret="crm"),
                    "scopes": ["crm.read"],
                    "audience": "crm",
                    "resource": "",
                },
            },
        ),
        a_backend(
            "calendar",
            auth={
                "tokenExchange": {
                    "tokenUrl": "http://keycloak.sso.svc:8080/token",
                    "insecureHttp": True,
                    "clientId": "mcpproxy",
                    "privateKeyFrom": ref(secret="office"),
                    "keyId": "2026",
                    "actor": {"serviceAccount": {"audience": "sso"}},
                }
            },
        ),
        a_backend(
            "mail",
            auth={
                "tokenExchange": {
                    "issuer": "https://login.example.com",
                    "clientId": "mcpproxy",
                    "clientSecretFrom": ref(secret="office"),
                    "resource": "urn:mail",
                    "actor": {"client": True},
                }
            },
        ),
        a_backend(
            "tracker",
            auth={
                "idJag": {
                    "clientId": "mcpproxy",
                    "clientSecretFrom": ref(secret="tracker"),
                    "scopes": ["read"],
                    "identityProvider": {
                        "issuer": "https://login.example.com",
                        "clientId": "mcpproxy",
                        "privateKeyFrom": ref(secret="office"),
                        "subjectTokenType": "IdToken",
                    },
                }
            },
        ),
        a_backend("inventory", auth={"serviceAccount": {"audience": "inventory.warehouse"}}),
    ],
)
"""The fields that exclude others."""
