"""Models of `spec.catalog`. Import them from `api.v1alpha1`."""

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from mcpproxy.api.base import ApiModel, cel, cel_validation
from mcpproxy.api.catalog_digests import CatalogDigests, approved_hash

Digest = Annotated[str, Field(max_length=64, pattern=r"^[0-9a-f]{64}$")]
Digests = Annotated[dict[str, Digest], Field(max_length=4096)]
OnDrift = Literal["Report", "Withhold"]

_NO_SET: Final = (
    "onDrift Withhold requires approved: a hash alone does not show which components differ"
)


class ApprovedComponents(ApiModel):
    """Approved components: the SHA-256 digest of each, by the name or URI that clients see."""

    tools: Digests | None = None
    """Tools by name. Default: none."""
    prompts: Digests | None = None
    """Prompts by name. Default: none."""
    resources: Digests | None = None
    """Resources by URI. Default: none."""
    resource_templates: Digests | None = None
    """Resource templates by URI template. Default: none."""

    @property
    def digests(self) -> CatalogDigests:
        """Digests by kind, then by name or URI."""
        return self.to_manifest()


class CatalogSpec(ApiModel):
    """The approved catalog, and how drift from it is handled."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            cel_validation(
                "!has(self.onDrift) || self.onDrift != 'Withhold' || has(self.approved)",
                _NO_SET,
                ".onDrift",
            )
        )
    )
    approved: ApprovedComponents | None = None
    """Approved components. With this field, the condition CatalogDrift names the components that
    differ. A component that is not listed here is not approved. Default: none."""
    approved_hash: Digest | None = None
    """Approved value of status.catalogHash. The condition CatalogDrift reports whether the current
    value differs. Default: none, or the hash of approved."""
    on_drift: OnDrift | None = None
    """Report serves components that differ from the approved ones. Withhold hides them and refuses
    their use until they are approved; it requires approved. Default: Report."""

    @field_validator("approved_hash")
    @classmethod
    def _check_approved_hash(cls, hash_value: str | None, info: ValidationInfo) -> str | None:
        approved: ApprovedComponents | None = info.data.get("approved")
        if approved is not None and hash_value is not None:
            expected = approved_hash(approved.digests)
            if expected != hash_value:
                raise ValueError(
                    f"the hash of approved is {expected}; set approvedHash to it or remove"
                    " approvedHash"
                )
        return hash_value

    @field_validator("on_drift")
    @classmethod
    def _check_on_drift(cls, on_drift: OnDrift | None, info: ValidationInfo) -> OnDrift | None:
        if on_drift == "Withhold" and info.data.get("approved", ...) is None:
            raise ValueError(_NO_SET)
        return on_drift

    @property
    def expected(self) -> str | None:
        """Expected hash of the catalog, or None if no catalog is approved."""
        if self.approved is not None:
            return approved_hash(self.approved.digests)
        return self.approved_hash
