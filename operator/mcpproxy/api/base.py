"""The base of every model of the contract."""

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class ApiModel(BaseModel):
    """camelCase outside, frozen inside, unknown fields refused."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        # Validators of models that only stand in others are never needed.
        defer_build=True,
    )

    def to_manifest(self) -> dict[str, Any]:
        """The JSON form: camelCase keys, unset fields absent."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def cel_validation(rule: str, message: str, field_path: str | None = None) -> dict[str, str]:
    """One CEL rule of a schema (`x-kubernetes-validations`)."""
    found = {"rule": rule, "message": message}
    return {**found, "fieldPath": field_path} if field_path else found


def cel(*rules: dict[str, str], **extra: Any) -> dict[str, Any]:
    """Schema extras that carry CEL rules into the CRD."""
    return {"x-kubernetes-validations": list(rules), **extra} if rules else extra
