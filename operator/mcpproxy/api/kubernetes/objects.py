"""Objects of the Kubernetes API as plain dictionaries."""

from typing import Any

Object = dict[str, Any]
"""An object as the API server sends it: JSON, decoded into dictionaries."""
Objects = list[Object]
