"""Callers of a plan: one for each selector of the rules, or the one of `--as`. Pure."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.api.v1alpha1 import AuthorizationRule, MCPProxySpec
from mcpproxy.proxy.core.identity import ANONYMOUS, Identity

KEYS: Final = ("issuer", "subject", "client", "groups", "scopes", "serviceAccount", "apiKey")
_FORM: Final = (
    "write anonymous, or pairs such as groups=dev,subject=alice of the keys "
    f"{', '.join(KEYS)}; repeat groups and scopes for several"
)


class PlannedCaller(NamedTuple):
    """A caller, and the words that describe it."""

    label: str
    identity: Identity


def callers_of(spec: MCPProxySpec) -> list[PlannedCaller]:
    """Return a caller for each selector that the rules name, with the scopes that they require.

    A caller whom several rules name with the same words occurs once.
    """
    authorization = spec.authorization
    rules = (authorization.rules if authorization else None) or []
    callers = [caller for rule in rules for caller in _callers_of_rule(rule, _only_issuer(spec))]
    callers.append(PlannedCaller("anonymous", ANONYMOUS))
    if spec.authentication is not None:
        other = Identity("jwt", issuer=_only_issuer(spec), subject="?")
        callers.append(PlannedCaller("any other caller", other))
    return list({caller.label: caller for caller in callers}.values())


def _callers_of_rule(rule: AuthorizationRule, issuer: str) -> Iterator[PlannedCaller]:
    who = rule.who
    if who.by_token:
        yield from _token_callers(rule, issuer)
    for account in who.service_accounts or ():
        name = f"{account.namespace}/{account.name}"
        # A pattern matches its own text.
        pair = account.namespace, account.name
        identity = Identity("serviceAccount", subject=name, service_account=pair)
        yield PlannedCaller(f"ServiceAccount {name}", identity)
    for key in who.api_keys or ():
        yield PlannedCaller(f"API key {key}", Identity("apiKey", subject=key, api_key=key))
    if who.any and rule.scopes:
        identity = Identity("jwt", issuer=issuer, subject="?", scopes=frozenset(rule.scopes))
        yield PlannedCaller(f"scopes {' '.join(rule.scopes)}", identity)


def _token_callers(rule: AuthorizationRule, only_issuer: str) -> Iterator[PlannedCaller]:
    who = rule.who
    scopes = rule.scopes or []
    for issuer in who.issuers or [""]:
        for subject in who.subjects or [""]:
            for client in who.clients or [""]:
                for group in who.groups or [""]:
                    words = [
                        ("issuer", issuer),
                        ("subject", subject),
                        ("client", client),
                        ("group", group),
                        ("scopes", " ".join(scopes)),
                    ]
                    yield PlannedCaller(
                        ", ".join(f"{word} {value}" for word, value in words if value),
                        Identity(
                            "jwt",
                            issuer=issuer or only_issuer,
                            subject=subject or "?",
                            client=client,
                            groups=frozenset(filter(None, [group])),
                            scopes=frozenset(scopes),
                        ),
                    )


def _only_issuer(spec: MCPProxySpec) -> str:
    """Return the issuer of tokens, if there is only one."""
    issuers = (spec.authentication.jwt if spec.authentication else None) or []
    return issuers[0].issuer if len(issuers) == 1 else ""


def parse_caller(text: str, spec: MCPProxySpec) -> PlannedCaller:
    """Return the caller that `--as` describes. Raise ManifestError."""
    if text == "anonymous":
        return PlannedCaller(text, ANONYMOUS)
    values: dict[str, list[str]] = {}
    for pair in text.split(","):
        key, separator, value = pair.partition("=")
        if key not in KEYS or not separator or not value:
            raise ManifestError(f"--as {text!r}: {pair!r} is not understood; {_FORM}")
        values.setdefault(key, []).append(value)
    for key, argument in values.items():
        if len(argument) > 1 and key not in ("groups", "scopes"):
            raise ManifestError(f"--as {text!r}: {key} is there {len(argument)} times; {_FORM}")
    return PlannedCaller(text, _identity(text, values, spec))


def _identity(text: str, values: dict[str, list[str]], spec: MCPProxySpec) -> Identity:
    def only(key: str, default: str = "") -> str:
        return values.get(key, [default])[0]

    if "serviceAccount" in values:
        namespace, _, name = only("serviceAccount").partition("/")
        if not name:
            raise ManifestError(f"--as {text!r}: serviceAccount must be NAMESPACE/NAME")
        return Identity("serviceAccount", service_account=(namespace, name))
    if "apiKey" in values:
        return Identity("apiKey", api_key=only("apiKey"))
    return Identity(
        "jwt",
        issuer=only("issuer", _only_issuer(spec)),
        subject=only("subject", "?"),
        client=only("client"),
        groups=frozenset(values.get("groups", ())),
        scopes=frozenset(values.get("scopes", ())),
    )
