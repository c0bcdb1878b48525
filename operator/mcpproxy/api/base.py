"""The base class of all models of the contract, and helpers for CEL rules."""

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class ApiModel(BaseModel):
    """A frozen model with camelCase keys in JSON. Unknown fields are rejected."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        # Models that occur only inside other models never need their own validator.
        defer_build=True,
    )

    def to_manifest(self) -> dict[str, Any]:
        """Return the JSON form, with camelCase keys and without unset fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def cel_validation(rule: str, message: str, field_path: str | None = None) -> dict[str, str]:
    """Return one CEL rule of a schema (`x-kubernetes-validations`)."""
    validation = {"rule": rule, "message": message}
    return {**validation, "fieldPath": field_path} if field_path else validation


def cel(*rules: dict[str, str], **extra: Any) -> dict[str, Any]:
    """Return the schema extras that carry CEL rules into the CRD."""
    return {"x-kubernetes-validations": list(rules), **extra} if rules else extra
