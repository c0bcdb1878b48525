"""Templates of Helm from Kubernetes objects.

An object is the same one that the plain manifests contain. Holes in it stand for scalars, members
of mappings and items of lists that Helm fills in.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from scripts.yaml_files import DUMPER

_HOLE: Final = re.compile(r"^(?P<indent> *)(?P<item>- )?HOLE(?P<number>\d+)E(: null)?$", re.M)
_SCALAR: Final = re.compile(r"HOLE(\d+)E")


@dataclass(slots=True)
class Template:
    """Collects the parts of one object that Helm fills in, and prints the template."""

    _parts: list[str | Callable[[int], str]] = field(default_factory=list)

    def expression(self, text: str) -> str:
        """Return what stands for a scalar; `text` is the expression between braces."""
        return self._hole(f"{{{{ {text} }}}}")

    def lines(self, text: Callable[[int], str]) -> str:
        """Return what stands for a member of a mapping (with the value None) or an item of a list.

        `text` gets the number of spaces before the member or item.
        """
        return self._hole(text)

    def _hole(self, part: str | Callable[[int], str]) -> str:
        self._parts.append(part)
        return f"HOLE{len(self._parts) - 1}E"

    def text(self, manifest: Any) -> str:
        """Return the manifest as YAML, with its holes filled by expressions of Helm."""
        plain = yaml.dump(manifest, Dumper=DUMPER, sort_keys=False, indent=2, width=10_000)
        # An expression that the manifest itself contains belongs to another program.
        plain = re.sub(
            r"\{\{|\}\}", lambda result: f"{{{{ {result[0]!r} }}}}".replace("'", "`"), plain
        )
        return _SCALAR.sub(self._scalar, _HOLE.sub(self._lines, plain))

    def _lines(self, result: re.Match[str]) -> str:
        part = self._parts[int(result["number"])]
        return result[0] if isinstance(part, str) else part(len(result["indent"]))

    def _scalar(self, result: re.Match[str]) -> str:
        part = self._parts[int(result[1])]
        assert isinstance(part, str), result[0]
        return part


def member(key: str, value: str) -> Callable[[int], str]:
    """Return a member of a mapping that is left out if the value is empty."""

    def text(indent: int) -> str:
        pad = " " * indent
        return (
            f"{{{{- with {value} }}}}\n{pad}{key}:\n"
            f"{pad}  {{{{- toYaml . | nindent {indent + 2} }}}}\n{{{{- end }}}}"
        )

    return text


def always(key: str, value: str) -> Callable[[int], str]:
    """Return a member of a mapping whose value is a mapping or list, also an empty one."""

    def text(indent: int) -> str:
        pad = " " * indent
        return f"{pad}{key}:\n{pad}  {{{{- toYaml {value} | nindent {indent + 2} }}}}"

    return text


def scalar(key: str, value: str) -> Callable[[int], str]:
    """Return a member of a mapping with a text that is left out if it is empty."""

    def text(indent: int) -> str:
        return f"{{{{- with {value} }}}}\n{' ' * indent}{key}: {{{{ . | quote }}}}\n{{{{- end }}}}"

    return text


def merged(*values: str) -> Callable[[int], str]:
    """Return further members of a mapping. Of a key in several values, the first value wins."""
    value = values[0] if len(values) == 1 else f"(merge (dict) {' '.join(values)})"

    def text(indent: int) -> str:
        pad = " " * indent
        return (
            f"{{{{- with {value} }}}}\n{pad}{{{{- toYaml . | nindent {indent} }}}}\n{{{{- end }}}}"
        )

    return text


def raw(*lines: str) -> Callable[[int], str]:
    """Return lines as they are; those that begin with braces are not indented."""

    def text(indent: int) -> str:
        return "\n".join(line if line.startswith("{{-") else " " * indent + line for line in lines)

    return text


def only_if(condition: str, template: str) -> str:
    """Return a template that is empty unless the condition holds."""
    return f"{{{{- if {condition} }}}}\n{template}{{{{- end }}}}\n"
