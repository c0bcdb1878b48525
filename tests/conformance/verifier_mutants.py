"""Mutants of the proxy's verifier, one for each of its rules, and what notices each of them.

A mutant replaces a text in a copy of the package. `checks` are those of the kit in
`tests/resource_server` that fail; without `bearer-good-token` among them, the mutant serves good
tokens. `test` is a test that fails where the kit has no check, because
other servers have no API keys and no ServiceAccounts.
"""

from dataclasses import dataclass
from typing import Final

AUTHENTICATION: Final = "proxy/authentication/"
_API_KEYS: Final = "tests/proxy/authentication/test_authenticator.py::"
_KEYS: Final = "tests/proxy/authentication/test_keys.py::"
_RULES: Final = "tests/proxy/authentication/test_token_rules.py::"
_FIELDS: Final = "tests/proxy/runtime/test_authentication_fields.py::"
_ACCOUNTS: Final = _FIELDS + "test_tokens_of_service_accounts_have_the_audience_of_the_spec"


@dataclass(frozen=True)
class Mutant:
    """A broken rule of the verifier."""

    file: str
    """File in the package."""
    old: str
    """Text in the file, which occurs once."""
    new: str
    checks: tuple[str, ...] = ()
    """Ids of checks of the kit that fail."""
    test: str = ""
    """Test that fails, if no check does."""


def _of(module: str, old: str, new: str, *checks: str, test: str = "") -> Mutant:
    return Mutant(f"{AUTHENTICATION}{module}.py", old, new, checks, test)


def _credentials(old: str, new: str, *checks: str, test: str = "") -> Mutant:
    return _of("authenticator", old, new, *checks, test=test)


def _token(old: str, new: str, *checks: str, test: str = "") -> Mutant:
    return _of("tokens", old, new, *checks, test=test)


def _claims(old: str, new: str, *checks: str, test: str = "") -> Mutant:
    return _of("token_rules", old, new, *checks, test=test)


def _key(old: str, new: str, *checks: str, test: str = "") -> Mutant:
    return _of("verification_keys", old, new, *checks, test=test)


def _mounted(old: str, new: str, *checks: str, test: str = "") -> Mutant:
    return _of("mounted_keys", old, new, *checks, test=test)


def _remote(old: str, new: str, *checks: str, test: str = "") -> Mutant:
    return _of("remote_keys", old, new, *checks, test=test)


def _challenge(old: str, new: str, *checks: str) -> Mutant:
    return _of("refusals", old, new, *checks)


def _metadata(old: str, new: str, *checks: str) -> Mutant:
    return _of("resource_metadata", old, new, *checks)


def _endpoint(old: str, new: str, *checks: str) -> Mutant:
    return Mutant("proxy/downstream/access/authenticated.py", old, new, checks)


def _identity(old: str, new: str, *checks: str) -> Mutant:
    return Mutant("proxy/core/identity.py", old, new, checks)


def _issuer(module: str, old: str, new: str, *checks: str) -> Mutant:
    return Mutant(f"proxy/issuers/{module}.py", old, new, checks)


MUTANTS: Final[dict[str, Mutant]] = {
    # Credentials.
    "anonymous": _credentials("if self._allows_anonymous:", "if True:", "bearer-no-token"),
    "repeated-header": _credentials(
        "sum(name == AUTHORIZATION for name, _ in head.lines) > 1",
        "False",
        test=_API_KEYS + "test_two_authorization_headers_are_refused_even_if_they_are_equal",
    ),
    "scheme": _credentials(
        "if scheme.lower() != _BEARER:", "if not scheme:", "bearer-scheme-other"
    ),
    "scheme-case": _credentials(
        "scheme.lower() != _BEARER", 'scheme != b"Bearer"', "bearer-scheme-case"
    ),
    "size": _credentials(
        "if len(credentials) > CREDENTIALS.value:", "if False:", "bearer-token-limit"
    ),
    "known-token": _credentials(
        "known is not None and known.is_valid(now)", "known is not None", "exp-known-token"
    ),
    "forgeries": _credentials(
        "if not known and self._forgeries.is_reached(network):",
        "if False:",
        test=_API_KEYS + "test_a_network_that_forges_tokens_is_refused_without_verification",
    ),
    "waiting": _credentials(
        "if not self._waiting.admits((network,)):",
        "if False:",
        test=_API_KEYS + "test_requests_beyond_the_limit_do_not_wait_for_keys",
    ),
    # API keys.
    "api-key-hash": _credentials(
        "if hmac.compare_digest(entry.digest, digest):",
        "if True:",
        test=_API_KEYS + "test_a_replaced_api_key_ends_at_once",
    ),
    "api-key-name": _credentials(
        'Identity("apiKey", API_KEYS, match.name, api_key=match.name)',
        'Identity("apiKey", API_KEYS, "key", api_key="key")',
        test=_API_KEYS + "test_an_api_key_is_accepted_by_its_hash_under_the_name_of_its_entry",
    ),
    "api-key-replaced": _mounted(
        "gone.revoke()", "pass", test=_API_KEYS + "test_a_replaced_api_key_ends_at_once"
    ),
    "api-key-form": _mounted(
        'r"(?:sha256:)?([0-9a-fA-F]{64})"',
        'r"(?:sha256:)?(.+)"',
        test=_API_KEYS + "test_the_status_names_a_secret_without_a_hash",
    ),
    # ServiceAccounts.
    "account-audience": _of(
        "client_authentication",
        "AudienceRule([spec.service_accounts.audience])",
        "AudienceRule((), public_url)",
        test=_ACCOUNTS,
    ),
    "account-subject": _claims(
        "not subject.startswith(_SUBJECT) or not (namespace and colon and name)",
        "not (namespace and colon and name)",
        test=_RULES + "test_other_subjects_of_the_cluster_are_refused",
    ),
    "account-namespace": _claims(
        "service_account=(namespace, name)",
        "service_account=(name, namespace)",
        test=_RULES + "test_a_token_of_the_cluster_names_a_service_account",
    ),
    "account-issuer": _mounted(
        "self.issuer, self._read = texts[0], texts",
        'self.issuer, self._read = "", texts',
        test=_ACCOUNTS,
    ),
    # Form and type of tokens.
    "crit": _token('if "crit" in head:', "if False:", "header-crit"),
    "alg-string": _token(
        "if not isinstance(algorithm, str) or not (key_id", "if not (key_id", "alg-missing"
    ),
    "typ": _token("if kind not in _TYPES or named in _OTHER_TYPES:", "if False:", "typ-other"),
    "typ-access": _token(
        '"jwt", "at+jwt", "application/jwt"', '"jwt", "application/jwt"', "bearer-good-token"
    ),
    "id-token": _token(
        "if not is_access_token and any(", "if False and any(", "id-token-for-resource"
    ),
    "base64": _token(
        'if decoded is None or base64.urlsafe_b64encode(decoded).rstrip(b"=") != part:',
        "if decoded is None:",
        "signature-padding",
    ),
    "claims-object": _token(
        "if not isinstance(value, dict):", "if value is None:", "claims-malformed"
    ),
    # Claims.
    "iss": _claims(
        'return bool(name) and token.claims.get("iss") == name', "return bool(name)", "iss-unknown"
    ),
    "iss-slash": _claims(
        'token.claims.get("iss") == name',
        'str(token.claims.get("iss")).rstrip("/") == name.rstrip("/")',
        "iss-slash",
    ),
    "aud": _claims("self._audience.check(token.claims)\n", "pass\n", "aud-wrong", "aud-missing"),
    "aud-exact": _claims(
        "canonical_url(value) == self._resource)",
        "self._resource.startswith(canonical_url(value)))",
        "aud-wrong",
    ),
    "aud-required": _claims(
        "        values = audience if isinstance",
        "        if audience is None:\n            return\n        values = audience if isinstance",
        "aud-missing",
    ),
    "aud-list": _claims(
        "audience if isinstance(audience, list) else [audience]", "[audience]", "aud-list"
    ),
    "exp": _claims("if expires + CLOCK_SKEW <= now:", "if False:", "exp-expired"),
    "exp-skew": _claims("if expires + CLOCK_SKEW <= now:", "if expires <= now:", "exp-skew"),
    "exp-required": _claims(
        "    if expires is None:\n",
        "    expires = expires or now + 60\n    if expires is None:\n",
        "exp-missing",
    ),
    "exp-number": _claims("not isinstance(value, int | float)", "value is None", "exp-malformed"),
    "nbf": _claims('for name in ("nbf", "iat"):', 'for name in ("iat",):', "nbf-future"),
    "iat": _claims('for name in ("nbf", "iat"):', 'for name in ("nbf",):', "iat-future"),
    "nbf-skew": _claims("if begin - CLOCK_SKEW > now:", "if begin > now:", "nbf-skew", "iat-skew"),
    "sub": _claims("if not isinstance(value, str) or not value:", "if False:", "sub-missing"),
    "scope-type": _claims(
        "[item for item in values if isinstance(item, str)]", "list(values)", "bearer-good-token"
    ),
    # Keys and signatures.
    "signature": _key(
        "return _VERIFIERS[token.algorithm].verify(", "return True or (", "signature-tampered"
    ),
    "kid": _key("if key.key_id == token.key_id]", "]", "kid-not-published"),
    "alg-of-key": _key('if "alg" in entry:', "if False:", "alg-pinned-by-key"),
    "alg-of-type": _key(
        "if token.algorithm not in self.algorithms:",
        "if False:",
        test=_KEYS + "test_a_key_verifies_nothing_with_algorithms_that_are_not_its_own",
    ),
    "key-size": _key("_SMALLEST <= key.key_size <= _LARGEST", "True", "key-weak"),
    "key-use": _key('entry.get("use", "sig") != "sig"', "False", "key-use-encryption"),
    "key-operations": _key(
        'isinstance(operations, list) and "verify" not in operations',
        "False",
        test=_KEYS + "test_keys_for_other_purposes_and_weak_ones_are_left_out",
    ),
    "key-count": _key(
        "entries = entries[: KEYS.value]",
        "pass",
        test=_KEYS + "test_keys_beyond_the_limit_are_ignored",
    ),
    "key-removed": _key("            key.revoke()\n", "            pass\n", "keys-removed"),
    "key-overlap": _key(
        "known.pop(key.source, key) for key in keys",
        "key for key in keys",
        test=_KEYS + "test_keys_that_stay_the_same_keep_their_admissions",
    ),
    # Key sets and discovery.
    "fetch-interval": _remote(
        "or self._now() - self._asked_at >= KEYS_REFETCH.value", "or True", "keys-unknown-kid-flood"
    ),
    "fetch-once": _remote(
        "        if self._fetching is None:\n            self._fetching =",
        "        if True:\n            self._fetching =",
        test=_KEYS + "test_requests_that_need_the_same_keys_share_one_fetch",
    ),
    "keys-kept": _remote("<= KEYS_KEPT.value:", "<= 0:", "issuer-down-warm"),
    "keys-forgotten": _remote(
        "self._now() - self._fetched_at <= KEYS_KEPT.value",
        "True",
        test=_KEYS + "test_keys_of_an_unreachable_issuer_are_forgotten_after_a_day",
    ),
    "fetch-size": _issuer(
        "documents", "if len(body) > self._limit:", "if False:", "issuer-large-keys"
    ),
    "discovery-issuer": _issuer(
        "metadata", "if named != issuer:", "if False:", "discovery-other-issuer"
    ),
    "discovery-oauth": _issuer(
        "metadata",
        '    yield f"{base}{_OAUTH}{path}"\n',
        "",
        "discovery-oauth",
    ),
    "discovery-openid": _issuer(
        "metadata",
        '    yield f"{base}{path}{_OPENID}"\n',
        "",
        "discovery-openid",
    ),
    # Metadata of the resource.
    "resource": _metadata(
        '"resource": spec.public_url', '"resource": f"{spec.public_url}/"', "metadata-resource"
    ),
    "issuers": _metadata(
        "[entry.issuer for entry in authentication.jwt or ()]",
        "[]",
        "metadata-authorization-servers",
    ),
    "methods": _metadata('["header"]', '["header", "query"]', "metadata-bearer-methods"),
    "scopes": _metadata("list(more.scopes_supported)", "[]", "metadata-no-empty-members"),
    "url-case": _metadata("else parts.hostname", "else parts.netloc", "aud-host-case"),
    "url-slash": _metadata('.removesuffix("/")', "", "aud-final-slash"),
    "paths": _metadata(
        "{WELL_KNOWN + end for end in (*ends, own)}", "{WELL_KNOWN}", "metadata-path-form"
    ),
    "other-paths": _metadata(
        'path.rstrip("/") in self._paths',
        "path.startswith(tuple(self._paths))",
        "metadata-other-path",
    ),
    "pages": _endpoint(
        '(b"access-control-allow-origin", b"*")', '(b"x-nothing", b"*")', "metadata-cross-origin"
    ),
    # Challenges.
    "challenge-metadata": _challenge(
        "if metadata_url else []", "if False else []", "challenge-metadata"
    ),
    "challenge-error": _challenge(
        'self._challenge(self._scopes, "invalid_token", message)',
        "self._challenge(self._scopes)",
        "challenge-invalid-token",
    ),
    "challenge-no-error": _challenge(
        "return HttpError(401, message, self._challenge(self._scopes))",
        'return HttpError(401, message, self._challenge(self._scopes, "invalid_token", "x"))',
        "challenge-no-error",
    ),
    "challenge-scope": _challenge("        if scopes:\n", "        if False:\n", "challenge-scope"),
    "scope-status": _challenge(
        "return HttpError(403, message, challenge)",
        "return HttpError(401, message, challenge)",
        "scope-insufficient",
    ),
    "scope-union": _challenge("sorted(set(scopes))", "sorted(set(scopes))[:1]", "scope-union"),
    # Sessions and streams.
    "cached-head": _endpoint(
        "return now() < until and not proof.revoked and handler(",
        "return not proof.revoked and handler(",
        "exp-known-token",
    ),
    "principal-issuer": _identity(
        "parts = (self.issuer, self.subject", "parts = (self.subject", "session-other-issuer"
    ),
    "principal-subject": _identity(
        "(self.issuer, self.subject, client)",
        "(self.issuer, client)",
        "session-other-subject",
    ),
    "principal-token": _identity(
        "(self.issuer, self.subject, client)",
        "(self.issuer, self.subject, str(self.expires))",
        "session-refreshed-token",
    ),
    "stream-lifetime": _identity(
        "        if self.expires is None:\n            return None",
        "        if True:\n            return None",
        "stream-get-expiry",
        "stream-listen-expiry",
    ),
}
