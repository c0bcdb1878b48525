"""Keys and hashes in files that the kubelet mounts and updates."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from mcpproxy.api import constants
from mcpproxy.proxy.authentication.verification_keys import (
    InvalidKeySet,
    KeyListener,
    KeySet,
    parse_key_set,
)
from mcpproxy.proxy.core.errors import MissingReference
from mcpproxy.proxy.core.identity import API_KEYS, SERVICE_ACCOUNTS
from mcpproxy.proxy.core.reports import KeysReport
from mcpproxy.proxy.upstream.mounted.values import (
    MountedConfigKey,
    MountedValues,
    ValueGroup,
    describe_reference,
)

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1 import ApiKey

SERVICE_ACCOUNT_KEYS: Final = "serviceAccounts"
API_KEY_HASHES: Final = "apiKeys"
"""Names of these two in the status, beside the issuers."""
_HASH: Final = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")


class ClusterKeys(KeySet):
    """The keys and the issuer of the cluster's ServiceAccount tokens, from the operator."""

    def __init__(self, proxy: str, values: MountedValues, listener: KeyListener) -> None:
        """`proxy` is the name of the MCPProxy."""
        super().__init__(SERVICE_ACCOUNTS, listener)
        name = constants.cluster_keys_name(proxy)
        names = (constants.CLUSTER_ISSUER_KEY, constants.CLUSTER_JWKS_KEY)
        references = [MountedConfigKey(name, key) for key in names]
        self._group = ValueGroup(values, references)
        self._read: tuple[str, ...] = ()
        self._problem: str | None = "the operator has not delivered the keys yet"
        self.issuer = ""

    @property
    def are_known(self) -> bool:
        """True if the keys were delivered."""
        return bool(self.keys)

    @property
    def status(self) -> KeysReport:
        """The state for the report of the pod."""
        return KeysReport(issuer=SERVICE_ACCOUNT_KEYS, keys=len(self.keys), message=self._problem)

    @property
    def may_learn(self) -> bool:
        """False, because the keys are read as soon as they are there."""
        return False

    async def learn(self) -> None:
        """Read the files again."""
        self.refresh()

    def refresh(self) -> None:
        """Read the files again, if they changed."""
        before = self._problem, self.keys
        try:
            texts = self._group.cached()
            if texts != self._read:
                self.replace(parse_key_set(texts[1].encode()))
                self.issuer, self._read = texts[0], texts
            self._problem = None
        except MissingReference as error:
            self._problem = f"{error}; the operator has not delivered it"
        except InvalidKeySet as error:
            self._problem = f"the key set of the cluster is invalid: {error}"
        if before != (self._problem, self.keys):
            self._listener.changed()


class ApiKeyHash:
    """The hash of one API key."""

    __slots__ = ("digest", "name", "revoked")

    def __init__(self, name: str, digest: bytes) -> None:
        self.name = name
        self.digest = digest
        self.revoked = False
        """True once the entry has another hash, or none."""

    def revoke(self) -> None:
        """Let nothing that was verified with it count any longer."""
        self.revoked = True


class ApiKeyHashes:
    """The hashes of all API keys of a spec."""

    def __init__(
        self, entries: "Sequence[ApiKey]", values: MountedValues, listener: KeyListener
    ) -> None:
        self._groups = [(entry, ValueGroup(values, [entry.reference])) for entry in entries]
        self._listener = listener
        self._problem: str | None = None
        self.hashes: tuple[ApiKeyHash, ...] = ()

    @property
    def status(self) -> KeysReport:
        """The state for the report of the pod."""
        return KeysReport(issuer=API_KEY_HASHES, keys=len(self.hashes), message=self._problem)

    def refresh(self) -> None:
        """Read the files again, if they changed."""
        before = self._problem, self.hashes
        known = {(each.name, each.digest): each for each in self.hashes}
        self._problem = None
        current = []
        for entry, group in self._groups:
            digest = self._digest(entry, group)
            if digest is not None:
                kept = known.pop((entry.name, digest), None)
                current.append(kept or ApiKeyHash(entry.name, digest))
        for gone in known.values():
            gone.revoke()
            self._listener.revoked(API_KEYS, gone.name)
        self.hashes = tuple(current)
        if before != (self._problem, self.hashes):
            self._listener.changed()

    def _digest(self, entry: "ApiKey", group: ValueGroup) -> bytes | None:
        try:
            (text,) = group.cached()
        except MissingReference as error:
            self._problem = self._problem or f"{entry.name}: {error}"
            return None
        match = _HASH.fullmatch(text.strip())
        if match is None:
            where = describe_reference(entry.reference)
            self._problem = self._problem or (
                f"{entry.name}: {where} has no SHA-256 in hexadecimal; write the hash of the key,"
                " not the key"
            )
            return None
        return bytes.fromhex(match[1])
