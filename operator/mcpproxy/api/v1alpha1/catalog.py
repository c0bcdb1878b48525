"""What of the catalog was approved: import these models from `api.v1alpha1`."""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from mcpproxy.api.base import ApiModel, cel, cel_validation

Digest = Annotated[str, Field(max_length=64, pattern=r"^[0-9a-f]{64}$")]
Digests = Annotated[dict[str, Digest], Field(max_length=4096)]
CatalogDigests = Mapping[str, Mapping[str, str]]
"""Kind of component (tools, prompts, resources, resourceTemplates) → name or URI → digest.

Names are those that clients see, a digest is that of `proxy.core.digests.component_digest`.
"""
OnDrift = Literal["Report", "Withhold"]

_NO_SET: Final = (
    "onDrift Withhold needs approved here: a hash alone does not tell which components differ"
)


def approved_hash(digests: CatalogDigests) -> str:
    """SHA-256 over the digests of all components, hexadecimal: `status.catalogHash`.

    Of the JSON object without spaces whose keys are sorted; a kind without components is left out.
    """
    found = {kind: dict(known) for kind, known in digests.items() if known}
    text = json.dumps(found, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


class ApprovedComponents(ApiModel):
    """The components that were approved: name or URI, as clients see it, and SHA-256."""

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
        """The same by kind."""
        return self.to_manifest()


class CatalogSpec(ApiModel):
    """The catalog that was approved, and what becomes of another one."""

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
    """The approved components, so that CatalogDrift can name those that differ. What is not
    among them was not approved. Default: none."""
    approved_hash: Digest | None = None
    """The approved value of status.catalogHash; the condition CatalogDrift says whether the
    catalog is another one. Default: none, or the hash of approved."""
    on_drift: OnDrift | None = None
    """Report serves components that differ from what was approved; Withhold hides them and
    refuses their use until they are approved, and needs approved. Default: Report."""

    @field_validator("approved_hash")
    @classmethod
    def _of_approved(cls, given: str | None, info: ValidationInfo) -> str | None:
        approved: ApprovedComponents | None = info.data.get("approved")
        if approved is not None and given is not None:
            found = approved_hash(approved.digests)
            if found != given:
                raise ValueError(f"the hash of approved is {found}: put that here, or remove it")
        return given

    @field_validator("on_drift")
    @classmethod
    def _known(cls, given: OnDrift | None, info: ValidationInfo) -> OnDrift | None:
        if given == "Withhold" and info.data.get("approved", ...) is None:
            raise ValueError(_NO_SET)
        return given

    @property
    def expected(self) -> str | None:
        """The hash that the catalog should have; None where nothing was approved."""
        if self.approved is not None:
            return approved_hash(self.approved.digests)
        return self.approved_hash
