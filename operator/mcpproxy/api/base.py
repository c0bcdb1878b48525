"""The base class of all models of the contract, and helpers for CEL rules."""

import ast
import functools
import inspect
import textwrap
from itertools import pairwise
from typing import Any

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


class ApiModel(BaseModel):
    """A frozen model with camelCase keys in JSON. Unknown fields are rejected."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        extra="forbid",
        frozen=True,
        # Models that occur only inside other models never need their own validator.
        defer_build=True,
    )

    def to_manifest(self) -> dict[str, Any]:
        """Return the JSON form, with camelCase keys and without unset fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def to_json(self) -> str:
        """Return the text of the JSON form."""
        return self.model_dump_json(by_alias=True, exclude_none=True)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        # Only the CRD needs descriptions, and pydantic would read them from the source at import.
        result = handler(schema)
        properties = handler.resolve_ref_schema(result).get("properties", {})
        for field, text in field_docstrings(cls).items():
            properties[cls.model_fields[field].alias or field].setdefault("description", text)
        return result


def field_docstrings(model: type[ApiModel]) -> dict[str, str]:
    """Return the docstrings of the fields of a model, which follow them in its source."""
    docstrings: dict[str, str] = {}
    for definition in reversed(model.__mro__):
        if issubclass(definition, ApiModel):
            docstrings |= _docstrings_in_source(definition)
    return docstrings


@functools.cache
def _docstrings_in_source(definition: type) -> dict[str, str]:
    (parsed,) = ast.parse(textwrap.dedent(inspect.getsource(definition))).body
    assert isinstance(parsed, ast.ClassDef)
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairwise(parsed.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def cel_validation(rule: str, message: str, field_path: str | None = None) -> dict[str, str]:
    """Return one CEL rule of a schema (`x-kubernetes-validations`)."""
    validation = {"rule": rule, "message": message}
    return {**validation, "fieldPath": field_path} if field_path else validation


def cel(*rules: dict[str, str], **extra: Any) -> dict[str, Any]:
    """Return the schema extras that carry CEL rules into the CRD."""
    return {"x-kubernetes-validations": list(rules), **extra} if rules else extra
