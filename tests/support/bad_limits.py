"""MCPProxies whose limits must be refused, and where; see `bad_manifests`."""

from typing import Any

from tests.support.bad_manifests import spec
from tests.support.bad_values import Bad
from tests.support.builders import a_backend


def rule(wrong: str, field: str, /, **fields: Any) -> Bad:
    """A proxy whose only rule is wrong at `field`."""
    path = f"limits.rules[0].{field}" if field else "limits.rules[0]"
    return spec(wrong, path, limits={"rules": [{"name": "rule", **fields}]})


def shared(wrong: str, field: str, /, **fields: Any) -> Bad:
    """A proxy whose limits are shared wrongly at `field`."""
    path = f"limits.shared.{field}" if field else "limits.shared"
    rules = [{"name": "rule", "inFlight": 1}]
    return spec(wrong, path, limits={"rules": rules, "shared": fields})


def results(wrong: str, field: str, /, **fields: Any) -> Bad:
    """A proxy whose results are limited wrongly at `field`."""
    backends = [a_backend(results=fields)]
    return spec(wrong, f"backends[0].results.{field}", backends=backends)


MANY = [{"name": f"r{number}", "inFlight": 1} for number in range(65)]
ONE = {"name": "rule", "inFlight": 1}
ALL = [
    rule("a rule that limits nothing", ""),
    rule("calls without a window", "", calls=5),
    rule("a window without calls", "", window="1m", inFlight=1),
    rule("no calls at all", "calls", calls=0, window="1m"),
    rule("too many calls", "calls", calls=1_000_001, window="1m"),
    rule("a window of half a second", "", calls=5, window="500ms"),
    rule("a window of two days", "window", calls=5, window="48h"),
    rule("a window that is no duration", "window", calls=5, window="soon"),
    rule("a burst of more than the calls", "", calls=5, window="1m", burst=6),
    rule("a burst alone", "", burst=6, inFlight=1),
    rule("no call in flight", "inFlight", inFlight=0),
    rule("another subject", "per", per="Team", inFlight=1),
    rule("no patterns", "tools", tools=[], inFlight=1),
    rule("an empty pattern of a limit", "tools[0]", tools=[""], inFlight=1),
    spec("no rules", "limits.rules", limits={"rules": []}),
    spec("65 rules of limits", "limits.rules", limits={"rules": MANY}),
    spec("two limits of one name", "limits.rules", limits={"rules": [ONE, ONE]}),
    spec(
        "another policy", "limits.onStoreFailure", limits={"rules": [ONE], "onStoreFailure": "Ask"}
    ),
    shared("nothing that is shared", ""),
    shared("two ways of sharing", "", mode="Owner", valkey={"address": "valkey:6379"}),
    shared("another way of sharing", "mode", mode="Gossip"),
    shared("an address without a port", "valkey.address", valkey={"address": "valkey"}),
    shared("a port beyond 65535", "valkey.address", valkey={"address": "valkey:65536"}),
    shared("a URL as address", "valkey.address", valkey={"address": "redis://valkey:6379"}),
    shared(
        "a password from nowhere",
        "valkey.passwordFrom",
        valkey={"address": "valkey:6379", "passwordFrom": {}},
    ),
    results("results of nothing", "maxBytes", maxBytes=10),
    results("results of any size", "maxBytes", maxBytes=2**31),
    results("another handling of results", "onLarger", maxBytes=4096, onLarger="Drop"),
]
