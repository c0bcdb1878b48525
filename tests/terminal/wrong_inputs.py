# ruff: noqa: E501, F541
"""Wrong inputs of first users, and the parts that a good answer has: place, fact and remedy."""

from dataclasses import dataclass
from typing import Final

PORT: Final = "19111"
"""Port that tests replace by one that is in use."""
HEAD: Final = "apiVersion: mcpproxy.dev/v1alpha1\nkind: MCPProxy\nmetadata: {name: tools}\n"
ONE: Final = "    - {name: weather, url: 'http://127.0.0.1:1/mcp'}\n"


@dataclass(frozen=True, slots=True)
class WrongInput:
    """A command, the file that it reads, and the parts of its answer."""

    command: str
    place: str
    """File and line, or option or argument, that the answer names."""
    fact: str
    remedy: str
    file: str = ""
    code: int = 2
    lines: int = 1
    """Number of errors, each of which has one line."""


def _yaml(backends: str, more: str = "") -> str:
    return f"{HEAD}spec:\n  backends:\n{backends}{more}"


def _json(member: str) -> str:
    return '{\n  "mcpServers": {\n    "weather": {' + member + "}\n  }\n}\n"


RUN: Final = "run -f x.yaml"
SERVERS: Final = "run mcp.json"
BOMB: Final = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(24)
)
DOWN: Final = "plan -f x.yaml --timeout 20"
"""`plan` prints the state of backends, in lines of its own."""

CASES: Final[dict[str, WrongInput]] = {
    "broken YAML": WrongInput(
        RUN,
        "x.yaml:5:4",
        "expected ',' or ']'",
        "']'",
        "kind: MCPProxy\nspec:\n  backends: [\n    a\n  b: c\n",
    ),
    "a misspelled field": WrongInput(
        RUN,
        "x.yaml:5: spec.backend",
        "unknown field",
        "did you mean backends?",
        f"{HEAD}spec:\n  backend:\n{ONE}",
        lines=1,
    ),
    "five wrong values": WrongInput(
        RUN,
        "x.yaml:7: spec.backends[0].url",
        'found "127.0.0.1:1/mcp"',
        "must begin with http://",
        _yaml(
            "    - name: Weather\n      url: 127.0.0.1:1/mcp\n      transport: websocket\n      session: {mode: shared}\n",
            "  replicas: two\n",
        ),
        lines=5,
    ),
    "url and stdio": WrongInput(
        RUN,
        "x.yaml:6: spec.backends[0]",
        "url, service and stdio",
        "exactly one of",
        _yaml("    - {name: a, url: 'http://a/mcp', stdio: {command: b}}\n"),
    ),
    "another kind": WrongInput(
        RUN,
        "x.yaml:2: kind",
        "found MCPServer",
        "expected a document of kind MCPProxy",
        f"apiVersion: v1\nkind: MCPServer\n",
    ),
    "an empty file": WrongInput(
        RUN, "x.yaml", "found an empty file", "expected a document of kind MCPProxy", "\n"
    ),
    "another version": WrongInput(
        RUN,
        "x.yaml:1: apiVersion",
        'found "mcpproxy.dev/v1"',
        "expected mcpproxy.dev/v1alpha1",
        _yaml(ONE).replace("v1alpha1", "v1"),
    ),
    "a key twice": WrongInput(
        RUN,
        "x.yaml:6:38",
        "duplicate key 'url'",
        "remove one of the two",
        _yaml("    - {name: a, url: 'http://a/mcp', url: 'http://b/mcp'}\n"),
    ),
    "no manifest": WrongInput(
        "run -f missing.yaml", "missing.yaml", "No such file", "No such file"
    ),
    "no JSON file": WrongInput("run missing.json", "missing.json", "No such file", "No such file"),
    "no program": WrongInput("run missing.py", "missing.py", "no such file", "no such file"),
    "an unknown target": WrongInput(
        "run foo",
        "foo",
        "foo: expected",
        "a URL, a .py or .js file, an mcpServers .json or .toml file, or the .yaml file",
    ),
    "a URL without scheme": WrongInput(
        "run 127.0.0.1:19211/mcp",
        "127.0.0.1:19211/mcp",
        "expected a URL",
        "did you mean http://127.0.0.1:19211/mcp?",
    ),
    "no target": WrongInput("run", "TARGET and -f", "is required", "such as mcpproxy run https://"),
    "a target and a manifest": WrongInput(
        "run http://a/mcp -f x.yaml",
        "TARGET and -f",
        "found http://a/mcp and x.yaml",
        "run one process for each",
    ),
    "a port in use": WrongInput(
        f"run http://127.0.0.1:1/mcp --transport http --port {PORT}",
        "--port",
        f"port {PORT} is in use on 127.0.0.1",
        "choose another port, such as --port",
    ),
    "a large port": WrongInput(
        "run http://a/mcp --port 80000",
        "--port",
        "'80000' is not a valid port",
        "use 0 to 65535",
        lines=1,
    ),
    "a port in words": WrongInput(
        "run http://a/mcp --port abc", "--port", "'abc' is not a valid port", "use 0 to 65535"
    ),
    "all addresses": WrongInput(
        "run http://127.0.0.1:1/mcp --transport http --host 0.0.0.0",
        "--host",
        "0.0.0.0",
        "--allowed-host",
    ),
    "a Secret": WrongInput(
        DOWN,
        "weather: ValueMissing",
        "Secret tok has no readable key header",
        "set --values DIR",
        _yaml(
            "    - name: weather\n      url: http://127.0.0.1:1/mcp\n      headers: [{name: A, valueFrom: {secretKeyRef: {name: tok, key: header}}}]\n"
        ),
        code=1,
    ),
    "a Service": WrongInput(
        DOWN,
        "calendar: Unreachable",
        "calendar.office.svc:80: the host name does not resolve",
        "set --resolve calendar=HOST:PORT",
        _yaml("    - {name: calendar, service: {name: calendar, namespace: office, port: 80}}\n"),
        code=1,
    ),
    "a dead port": WrongInput(
        DOWN,
        "weather: Unreachable",
        "127.0.0.1:1: connection refused",
        "start the server, or correct the URL",
        _yaml(ONE),
        code=1,
    ),
    "a missing program": WrongInput(
        DOWN,
        "a: ProcessFailed",
        "cannot start no-such-program",
        "install it",
        _yaml("    - {name: a, stdio: {command: no-such-program}}\n"),
        code=1,
    ),
    "https for http": WrongInput(
        DOWN,
        "a: Unreachable",
        "TLS failed",
        "write http:// if it has no TLS",
        _yaml(f"    - {{name: a, url: 'https://127.0.0.1:{PORT}/mcp'}}\n"),
        code=1,
    ),
    "a wrong path": WrongInput(
        DOWN,
        "a: NotMCP",
        "HTTP 404",
        "correct the path /wrong",
        _yaml(f"    - {{name: a, url: 'http://127.0.0.1:{PORT}/wrong'}}\n"),
        code=1,
    ),
    "a variable": WrongInput(
        SERVERS,
        "mcp.json:3: mcpServers.weather.headers.X-Key",
        "the environment variable NOT_SET_HERE",
        "is not set",
        _json('"url": "http://a/mcp", "headers": {"X-Key": "${NOT_SET_HERE}"}'),
    ),
    "an input": WrongInput(
        SERVERS,
        "mcp.json:3: mcpServers.weather.headers.X-Key",
        "${input:key} asks a person",
        "set the environment variable MCPPROXY_INPUT_KEY",
        _json('"url": "http://a/mcp", "headers": {"X-Key": "${input:key}"}'),
    ),
    "a type": WrongInput(
        SERVERS,
        "mcp.json:3: mcpServers.weather.type",
        "found 'ws'",
        "expected http or sse",
        _json('"url": "http://a/mcp", "type": "ws"'),
    ),
    "broken JSON": WrongInput(
        SERVERS, "mcp.json:3:24", "invalid JSON", "Expecting value", _json('"url": oops')
    ),
    "a misspelled key": WrongInput(
        SERVERS,
        "mcp.json:3: mcpServers.weather",
        "found urll",
        "did you mean url?",
        _json('"urll": "http://a/mcp"'),
    ),
    "a field that restricts": WrongInput(
        SERVERS,
        "mcp.json:3: mcpServers.weather.include_tags",
        "restricts the server",
        "write includeTools or excludeTools",
        _json('"url": "http://a/mcp", "include_tags": ["safe"]'),
    ),
    "a pattern of tools": WrongInput(
        SERVERS,
        "mcp.json:3: mcpServers.weather.includeTools",
        "'get_*' is a pattern",
        "write the names of the tools",
        _json('"url": "http://a/mcp", "includeTools": ["get_*"]'),
    ),
    "no servers": WrongInput(
        SERVERS,
        "mcp.json",
        'expected an object with "mcpServers"',
        "did you mean mcpServers?",
        '{"mcpServer": {}}',
    ),
    "no MCPProxy in the cluster": WrongInput(
        "list mcpproxy/nope", "mcpproxy/nope", 'services "nope" not found', "not found"
    ),
    "two prefixes": WrongInput(
        RUN,
        "x.yaml:5: spec.backends",
        "backends a and b have the same prefix ",
        "change one of them",
        _yaml(
            "    - {name: a, prefix: '', url: 'http://a/mcp'}\n    - {name: b, prefix: '', url: 'http://b/mcp'}\n"
        ),
    ),
    "a misspelled option": WrongInput(
        "run http://a/mcp --prot 1",
        "unrecognized arguments: --prot",
        "--prot 1",
        "did you mean --port?",
    ),
    "a misspelled command": WrongInput(
        "rnu", "COMMAND", "invalid choice: 'rnu'", "did you mean run?"
    ),
    "a wrong encoding": WrongInput(
        RUN, "x.yaml", "is not UTF-8", "save the file as UTF-8", "\udcff"
    ),
    "a bomb of aliases": WrongInput(
        RUN, "x.yaml", "aliases make more than 200000 values", "invalid YAML", BOMB
    ),
    "a name with dots": WrongInput(
        RUN,
        "x.yaml:3: metadata.name",
        "must be a DNS label",
        "lower case letters, digits and -",
        _yaml(ONE).replace("{name: tools}", "{name: my.tools}"),
    ),
    "replicas and autoscaling": WrongInput(
        RUN,
        "x.yaml:8: spec.autoscaling",
        "replicas and autoscaling are mutually exclusive",
        "remove one of them",
        _yaml(ONE, "  replicas: 2\n  autoscaling: {maxReplicas: 3}\n"),
    ),
    "an mcp.json as manifest": WrongInput(
        RUN,
        "x.yaml",
        "found mcpServers",
        "write the manifest with mcpproxy convert FILE",
        "mcpServers: {a: {command: b}}\n",
    ),
}
