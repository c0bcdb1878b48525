"""Discovery and key sets of the trusted issuers, fetched when a token needs them."""

import json
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import jwt

from tests.resource_server.reference.rules import Rules

RSA_BITS: Final = 2048
MAX_BYTES: Final = 512 * 1024
FETCH_SECONDS: Final = 1.5
"""Time for one document, from the first to the last byte."""


class Unavailable(Exception):
    """The keys of an issuer were never fetched."""


class _SameOrigin(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        if urlsplit(newurl).netloc != urlsplit(req.full_url).netloc:
            raise urllib.error.URLError("a redirect to another origin")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@dataclass
class _Entry:
    keys: dict[str, jwt.PyJWK] = field(default_factory=dict)
    fetched: float = -1e9
    """When the key set was last requested, with or without success."""
    loaded: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


def parse_keys(document: Any, rules: Rules) -> dict[str, jwt.PyJWK]:
    """Return the usable keys of a key set by their identifiers. Raise ValueError for no key set."""
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise ValueError("no key set")
    keys = {}
    for item in document["keys"]:
        if not isinstance(item, dict) or not isinstance(item.get("kid"), str):
            if rules.keep("keys-skip-unknown"):
                continue
            raise ValueError("a key is no object with a kid")
        if _is_left_out(item, rules):
            continue
        try:
            key = jwt.PyJWK({**item, "alg": item.get("alg") or default_alg(item)})
        except (jwt.exceptions.PyJWTError, ValueError, KeyError, TypeError):
            if rules.breaks("keys-skip-unknown"):
                raise ValueError("a key is not understood") from None
            continue
        if key.key_type != "RSA" or key.key.key_size >= RSA_BITS or rules.breaks("keys-size"):
            keys[item["kid"]] = key
    return keys


def _is_left_out(item: dict[str, Any], rules: Rules) -> bool:
    if item.get("kty") == "oct" and rules.keep("keys-no-secrets"):
        return True
    if "alg" not in item and rules.breaks("keys-without-alg"):
        return True
    return item.get("use") == "enc" and rules.keep("keys-use")


def default_alg(item: dict[str, Any]) -> str:
    """Return the algorithm of a key that names none."""
    return {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}.get(str(item.get("kty")), "HS256")


class KeyStore:
    """Keys by issuer and key identifier."""

    def __init__(self, issuers: tuple[str, ...], interval: float, rules: Rules) -> None:
        self._interval = interval
        self._rules = rules
        if rules.breaks("iss-final-slash"):
            issuers = tuple(issuer.rstrip("/") for issuer in issuers)
        self.main = issuers[0]
        self._entries = {issuer: _Entry() for issuer in issuers}
        handlers = [] if rules.breaks("fetch-redirects") else [_SameOrigin()]
        self._opener = urllib.request.build_opener(*handlers)

    def trusts(self, issuer: object) -> bool:
        """True if the issuer is one of the trusted ones."""
        return isinstance(issuer, str) and issuer in self._entries

    def add(self, issuer: str) -> None:
        """Trust an issuer."""
        self._entries.setdefault(issuer, _Entry())

    def find(self, issuer: str, kid: str) -> jwt.PyJWK | None:
        """Return a key, after a fetch if it is not known and a fetch is due. Raise Unavailable."""
        entry = self._entries[issuer]
        lock = entry.lock if self._rules.keep("fetch-single-flight") else threading.Lock()
        with lock:
            due = time.monotonic() - entry.fetched >= self._interval
            due = due or self._rules.breaks("fetch-interval")
            if self._rules.breaks("fetch-once") and entry.loaded:
                due = False
            if self._rules.breaks("fetch-cache") or (kid not in entry.keys and due):
                self._refresh(issuer, entry)
        if not entry.loaded:
            raise Unavailable(issuer)
        return entry.keys.get(kid)

    def refresh(self, issuer: str) -> None:
        """Fetch a key set now."""
        with self._entries[issuer].lock:
            self._refresh(issuer, self._entries[issuer])

    def any_kid(self, issuer: str) -> str:
        """Return the identifier of some key."""
        return next(iter(self._entries[issuer].keys), "")

    def find_by_alg(self, issuer: str, alg: str) -> jwt.PyJWK | None:
        """Return the first key of an issuer for an algorithm."""
        keys = self._entries[issuer].keys.values()
        return next((key for key in keys if key.algorithm_name == alg), None)

    def find_anywhere(self, kid: str) -> jwt.PyJWK | None:
        """Return a key of any issuer."""
        result = (entry.keys.get(kid) for entry in reversed(self._entries.values()))
        return next((key for key in result if key is not None), None)

    def refresh_old(self, age: float) -> None:
        """Fetch the key sets that are older."""
        for issuer, entry in self._entries.items():
            with entry.lock:
                if entry.loaded and time.monotonic() - entry.fetched >= age:
                    self._refresh(issuer, entry)

    def _refresh(self, issuer: str, entry: _Entry) -> None:
        entry.fetched = time.monotonic()
        try:
            keys = parse_keys(self._get(self._discover(issuer)), self._rules)
        except (OSError, ValueError, LookupError, TypeError) as problem:
            if self._rules.breaks("keys-garbage") and isinstance(problem, ValueError):
                raise RuntimeError("no key set") from problem
            if self._rules.breaks("keys-stale"):
                entry.keys, entry.loaded = {}, False
            return
        entry.loaded = True
        if self._rules.breaks("keys-removed"):
            entry.keys = {**entry.keys, **keys}
        else:
            entry.keys = keys
        if self._rules.breaks("keys-overlap"):
            newest = next(iter(keys), "")
            entry.keys = {newest: keys[newest]} if newest else {}

    def _discover(self, issuer: str) -> str:
        parts = urlsplit(issuer)
        origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
        forms = []
        if self._rules.keep("discovery-oauth"):
            forms.append(f"{origin}/.well-known/oauth-authorization-server{path}")
        if self._rules.keep("discovery-openid"):
            forms.append(f"{origin}{path}/.well-known/openid-configuration")
        for url in forms:
            try:
                document = self._get(url)
            except urllib.error.HTTPError as problem:
                problem.close()
                continue
            if document["issuer"] != issuer and self._rules.keep("discovery-issuer"):
                raise ValueError("the metadata is of another issuer")
            return str(document["jwks_uri"])
        raise LookupError("no metadata")

    def _get(self, url: str) -> Any:
        deadline = time.monotonic() + FETCH_SECONDS
        patience = FETCH_SECONDS if self._rules.keep("fetch-timeout") else 300.0
        with self._opener.open(url, timeout=patience) as response:
            body = b""
            while part := response.read1(65536):
                body += part
                if len(body) > MAX_BYTES and self._rules.keep("fetch-size"):
                    raise ValueError("the document is too large")
                if time.monotonic() > deadline and self._rules.keep("fetch-deadline"):
                    raise ValueError("the document takes too long")
        return json.loads(body)
