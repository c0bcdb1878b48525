"""MCPProxies whose exposure must be refused."""

from typing import Any

from tests.support.bad_values import Bad, bad
from tests.support.builders import a_manifest

URL = "https://mcp.example.com/tools"
GATEWAY: dict[str, Any] = {"parentRefs": [{"name": "public"}]}
NOT_ROUTABLE = {
    "an address as host": "https://192.0.2.1/tools",
    "an address of IPv6 as host": "https://[2001:db8::1]/tools",
    "an underscore in the host": "https://my_tools.example.com",
    "a dot at the end of the host": "https://mcp.example.com./tools",
    "64 characters in a label of the host": f"https://{'a' * 64}.example.com",
    "256 characters in the host": f"https://{'a.' * 126}exam",
    "254 characters in a segment": f"https://mcp.example.com/{'a' * 254}",
    "901 characters": "https://mcp.example.com" + f"/{'a' * 250}" * 3 + f"/{'b' * 124}",
    "an escape after many segments": "https://mcp.example.com" + "/aaaaaaaaaaaaaaaa" * 50 + "/%",
    "an escaped dot segment": "https://mcp.example.com/a/%2e%2e/b",
    "an escaped slash": "https://mcp.example.com/a%2Fb",
    "a dot segment": "https://mcp.example.com/a/../b",
    "a single dot": "https://mcp.example.com/./a",
    "an empty segment": "https://mcp.example.com/a//b",
    "two slashes at the end": "https://mcp.example.com/a//",
    "an asterisk": "https://mcp.example.com/.*",
    "a regular expression": "https://mcp.example.com/(tools|admin)",
    "a variable of nginx": "https://mcp.example.com/$host",
    "braces": "https://mcp.example.com/{a}",
    "a semicolon": "https://mcp.example.com/a;b=c",
    "a letter that is not ASCII": "https://mcp.example.com/ä",
}


def exposed(wrong: str, field: str, /, url: str | None = URL, **expose: Any) -> Bad:
    """A proxy whose exposure is wrong at `field`."""
    value = {} if url is None else {"publicUrl": url}
    return bad(wrong, a_manifest(**value, expose=expose), f"spec.expose{field}")


def attached(wrong: str, field: str, /, *refs: Any) -> Bad:
    """A proxy whose references to Gateways are wrong at `field`."""
    return exposed(wrong, f".parentRefs{field}", parentRefs=list(refs))


EXPOSURE = [
    exposed("exposed without a public URL", "", url=None, **GATEWAY),
    *(
        exposed(f"exposed with {wrong} in the public URL", "", url=url, **GATEWAY)
        for wrong, url in NOT_ROUTABLE.items()
    ),
    exposed("exposed in no way", ""),
    exposed("exposed in two ways", "", **GATEWAY, ingress={}),
    bad(
        "exposed with a policy that keeps Gateways out",
        a_manifest(publicUrl=URL, expose=GATEWAY, networkPolicy={}),
        "spec.expose",
    ),
    attached("no Gateway", ""),
    attached("9 Gateways", "", *({"name": f"g{number}"} for number in range(9))),
    attached("a Gateway without a name", "[0].name", {"namespace": "a"}),
    attached("a Gateway's name in upper case", "[0].name", {"name": "Public"}),
    attached("a Gateway in no namespace", "[0].namespace", {"name": "a", "namespace": ""}),
    attached("a listener without a name", "[0].sectionName", {"name": "a", "sectionName": ""}),
    attached("a listener at port 0", "[0].port", {"name": "a", "port": 0}),
    attached("a Service as parent", "[0].kind", {"name": "a", "kind": "Service"}),
    attached("a Gateway twice", "", {"name": "a"}, {"name": "a"}),
    attached("a Gateway and its listener", "", {"name": "a"}, {"name": "a", "sectionName": "b"}),
    attached("a listener twice", "", *[{"name": "a", "sectionName": "b"}] * 2),
    exposed("a class without a name", ".ingress.className", ingress={"className": ""}),
    exposed("a path as Secret", ".ingress.tlsSecretName", ingress={"tlsSecretName": "a/b"}),
    exposed("an Ingress with rules", ".ingress.rules", ingress={"rules": []}),
]
