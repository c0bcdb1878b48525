"""MCPProxies whose authentication must be refused."""

from typing import Any

from tests.support.bad_values import Bad, bad, ref
from tests.support.builders import a_backend, a_manifest

URL = {"publicUrl": "https://mcp.example.com/tools"}
ISSUER = {"issuer": "https://login.example.com"}
KEY = {"name": "n8n", "hashFrom": ref(secret="keys")}
CLIENT = {"clientId": "a", "clientSecretFrom": ref(secret="client")}
ID_JAG = {**CLIENT, "identityProvider": {**CLIENT, "issuer": "https://a.example"}}
OUT = "spec.backends[0].auth"
LOCAL = "http://keycloak.sso.svc:8080/realms/a"


def issuer(wrong: str, field: str, /, **fields: Any) -> Bad:
    """An issuer that is refused."""
    value: dict[str, Any] = {**URL, "authentication": {"jwt": [{**ISSUER, **fields}]}}
    return bad(wrong, a_manifest(**value), f"spec.authentication.jwt[0]{field}")


def authentication(wrong: str, field: str, /, **fields: Any) -> Bad:
    """Authentication that is refused."""
    return bad(wrong, a_manifest(**URL, authentication=fields), f"spec.authentication{field}")


def whole(wrong: str, path: str, /, **spec: Any) -> Bad:
    """A spec whose fields do not go together."""
    return bad(wrong, a_manifest(**spec), "spec", path)


AUTHENTICATION = [
    *(
        bad(f"{url} as public URL", a_manifest(publicUrl=url), "spec.publicUrl")
        for url in ("mcp.example.com", "ftp://a.example", "https://u@a.example", "https://a/?b")
    ),
    bad("a public URL with a fragment", a_manifest(publicUrl="https://a/b#c"), "spec.publicUrl"),
    bad(
        "a public URL with port 99999",
        a_manifest(publicUrl="https://a.example:99999"),
        "spec.publicUrl",
        None,
    ),
    authentication("no method", ""),
    authentication("no method but a mode", "", mode="Optional"),
    authentication("no issuer", "", jwt=[]),
    authentication("no key", "", apiKeys=[]),
    authentication("an unknown mode", ".mode", mode="Maybe", jwt=[ISSUER]),
    authentication("an issuer twice", ".jwt", jwt=[ISSUER, ISSUER]),
    authentication("a key twice", ".apiKeys", apiKeys=[KEY, KEY]),
    authentication("17 issuers", ".jwt", jwt=[{"issuer": f"https://i{n}"} for n in range(17)]),
    authentication("no audience", ".serviceAccounts.audience", serviceAccounts={}),
    authentication(
        "an empty audience", ".serviceAccounts.audience", serviceAccounts={"audience": ""}
    ),
    authentication("a key without a hash", ".apiKeys[0].hashFrom", apiKeys=[{"name": "a"}]),
    authentication(
        "a hash in a ConfigMap",
        ".apiKeys[0].hashFrom",
        apiKeys=[{"name": "a", "hashFrom": ref(config_map="keys")}],
    ),
    authentication("a literal hash", ".apiKeys[0].hash", apiKeys=[{**KEY, "hash": "a" * 64}]),
    authentication("a key in upper case", ".apiKeys[0].name", apiKeys=[{**KEY, "name": "N8N"}]),
    authentication(
        "a scope with a space",
        ".resourceMetadata.scopesSupported[0]",
        jwt=[ISSUER],
        resourceMetadata={"scopesSupported": ["a b"]},
    ),
    authentication(
        "a scope with a quote",
        ".resourceMetadata.scopesSupported[0]",
        jwt=[ISSUER],
        resourceMetadata={"scopesSupported": ['a"b']},
    ),
    issuer("an http issuer", "", issuer="http://login.example.com"),
    issuer("an http issuer outside", "", issuer="http://login.example.com", insecureHttp=True),
    issuer("an http issuer of a cluster", "", issuer=LOCAL),
    issuer("an issuer that looks local", "", issuer="http://a.b.svc.evil.com", insecureHttp=True),
    issuer("an issuer at a user", ".issuer", issuer="http://localhost@evil.com", insecureHttp=True),
    issuer("an http key set", "", jwksUrl="http://login.example.com/keys"),
    issuer("an http key set of a cluster", "", jwksUrl=f"{LOCAL}/keys"),
    issuer("an issuer with a query", ".issuer", issuer="https://a.example?b"),
    issuer("17 audiences", ".audiences", audiences=[f"a{n}" for n in range(17)]),
    issuer("an empty claim", ".claims.groups", claims={"groups": ""}),
    issuer("authorities of nowhere", ".caFrom", caFrom={}),
    whole(
        "authentication twice",
        "spec.principalFrom",
        **URL,
        authentication={"jwt": [ISSUER]},
        principalFrom={"header": "X-User"},
    ),
    whole("an issuer without audience", "spec.authentication", authentication={"jwt": [ISSUER]}),
    whole(
        "an issuer with no audience",
        "spec.authentication",
        authentication={"jwt": [{**ISSUER, "audiences": []}]},
    ),
    whole(
        "metadata that nobody finds",
        "spec.authentication",
        authentication={"apiKeys": [KEY], "resourceMetadata": {"scopesSupported": ["a"]}},
    ),
    whole(
        "tokens that are passed on",
        "spec.authentication",
        authentication={"apiKeys": [KEY]},
        backends=[a_backend(forwardHeaders=["AUTHORIZATION"])],
    ),
    whole(
        "tokens that are passed on in spite of a word",
        "spec.authentication",
        authentication={"apiKeys": [KEY]},
        backends=[a_backend(forwardHeaders=["authorization"], auth={"passthrough": False})],
    ),
    bad(
        "passthrough of nothing",
        a_manifest(backends=[a_backend(auth={"passthrough": True})]),
        "spec.backends[0]",
    ),
    *(
        bad(f"an identity towards a backend: {wrong}", a_manifest(backends=[value]), path)
        for wrong, path, value in (
            (
                "two at once",
                "spec.backends[0].auth",
                a_backend(auth={"clientCredentials": CLIENT, "serviceAccount": {"audience": "a"}}),
            ),
            (
                "the client's credentials as well",
                "spec.backends[0].auth",
                a_backend(
                    forwardHeaders=["Authorization"],
                    auth={"passthrough": True, "serviceAccount": {"audience": "a"}},
                ),
            ),
            (
                "a header of the same name",
                "spec.backends[0]",
                a_backend(
                    headers=[{"name": "authorization", "value": "x"}],
                    auth={"serviceAccount": {"audience": "a"}},
                ),
            ),
            (
                "no secret",
                f"{OUT}.clientCredentials",
                a_backend(auth={"clientCredentials": {"clientId": "a"}}),
            ),
            (
                "a secret and a key",
                f"{OUT}.clientCredentials",
                a_backend(
                    auth={"clientCredentials": {**CLIENT, "privateKeyFrom": ref(secret="key")}}
                ),
            ),
            (
                "an issuer and the URL of its endpoint",
                f"{OUT}.clientCredentials",
                a_backend(
                    auth={
                        "clientCredentials": {
                            **CLIENT,
                            "issuer": "https://a.example",
                            "tokenUrl": "https://a.example/token",
                        }
                    }
                ),
            ),
            (
                "http without a word",
                f"{OUT}.clientCredentials",
                a_backend(auth={"clientCredentials": {**CLIENT, "issuer": LOCAL}}),
            ),
            (
                "http to the Internet",
                f"{OUT}.clientCredentials",
                a_backend(
                    auth={
                        "clientCredentials": {
                            **CLIENT,
                            "tokenUrl": "http://a.example/token",
                            "insecureHttp": True,
                        }
                    }
                ),
            ),
            (
                "a server for exchanges that the backend would choose",
                f"{OUT}.tokenExchange",
                a_backend(auth={"tokenExchange": CLIENT}),
            ),
            (
                "nothing to exchange",
                "spec",
                a_backend(auth={"tokenExchange": {**CLIENT, "issuer": "https://a.example"}}),
            ),
            (
                "an identity provider that nobody names",
                f"{OUT}.idJag.identityProvider",
                a_backend(auth={"idJag": {**CLIENT, "identityProvider": CLIENT}}),
            ),
            (
                "an endpoint for grants without the audience of grants",
                f"{OUT}.idJag",
                a_backend(auth={"idJag": {**ID_JAG, "tokenUrl": "https://a.example/token"}}),
            ),
            (
                "nobody whose identity provider could be asked",
                "spec",
                a_backend(auth={"idJag": ID_JAG}),
            ),
            (
                "an exchange and a grant",
                OUT,
                a_backend(
                    auth={
                        "idJag": ID_JAG,
                        "tokenExchange": {**CLIENT, "issuer": "https://a.example"},
                    }
                ),
            ),
            (
                "no actor",
                f"{OUT}.tokenExchange.actor",
                a_backend(
                    auth={
                        "tokenExchange": {
                            **CLIENT,
                            "issuer": "https://a.example",
                            "actor": {"client": False},
                        }
                    }
                ),
            ),
        )
    ),
]
