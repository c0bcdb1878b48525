"""YAML and JSON documents of untrusted files, with the line of each field."""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml

from mcpproxy.api.manifest_errors import ManifestError, Problem

MAX_CHARACTERS: Final = 4 * 1024 * 1024
"""Size of a file; the API server accepts less."""
MAX_NODES: Final = 200_000
"""Number of values in a document after its aliases are replaced by the values that they name."""
MAX_WRITTEN: Final = 100_000
"""Number of values in a file."""
_MERGE: Final = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """YAML loader that behaves like kubectl: dates stay text, and a repeated key is an error."""

    _written = 0
    """Number of values that were read so far."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        # Reading takes 0.1 ms for each value, so the time is limited here.
        self._written += 1
        if self._written > MAX_WRITTEN:
            raise ManifestError(f"more than {MAX_WRITTEN} values; split the file")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise _error("expected a text as key of a mapping", key_node)
            if key in seen:
                raise _error(f"duplicate key {key!r} in a mapping; remove one of the two", key_node)
            seen.add(key)
        return super().construct_mapping(node, deep)


# An unquoted 2025-11-25 is an MCP revision, not a date.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _error(message: str, node: yaml.Node) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, message, node.start_mark)


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file."""

    content: Any
    root: yaml.Node

    def line_of(self, field: str) -> int:
        """Return the line of a field such as `spec.backends[0].url`, or of the nearest one above
        it."""
        node, line, rest = self.root, self.root.start_mark.line, field
        while (step := _step(node, rest)) is not None:
            node, line, rest = step
        return line + 1


def _step(node: yaml.Node, path: str) -> tuple[yaml.Node, int, str] | None:
    """Return the child that a path names, its line, and the rest of the path."""
    if isinstance(node, yaml.SequenceNode):
        index, bracket, rest = path.removeprefix("[").partition("]")
        if not bracket or not index.isdecimal() or int(index) >= len(node.value):
            return None
        child = node.value[int(index)]
        return child, child.start_mark.line, rest
    if not isinstance(node, yaml.MappingNode):
        return None
    path = path.removeprefix(".")
    # Keys can contain dots, so the longest one that fits counts.
    fitting = [(key, value) for key, value in node.value if _names(key, path)]
    if not fitting:
        return None
    key, value = max(fitting, key=lambda pair: len(pair[0].value))
    return value, key.start_mark.line, path[len(key.value) :]


def _names(key: yaml.Node, path: str) -> bool:
    text = key.value if isinstance(key, yaml.ScalarNode) else ""
    return (
        bool(text) and path.startswith(text) and path[len(text) : len(text) + 1] in ("", ".", "[")
    )


def read_documents(text: str) -> list[Document]:
    """Return all non-empty documents of a YAML or JSON text. Raise ManifestError."""
    if len(text) > MAX_CHARACTERS:
        raise ManifestError(f"more than {MAX_CHARACTERS // 1024**2} MiB; split the file")
    try:
        return list(_read(text))
    except yaml.MarkedYAMLError as error:
        raise ManifestError.of([_problem(error)]) from error
    except yaml.YAMLError as error:
        # The characters are not those of YAML. The text of the error has several lines.
        raise ManifestError(f"invalid YAML: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise ManifestError("invalid YAML: the values are nested too deeply") from None


def _read(text: str) -> Iterator[Document]:
    loader = _Loader(text)
    try:
        while loader.check_node():
            root = loader.get_node()
            if root is None:
                break
            if _expanded_size(root, {}) > MAX_NODES:
                raise ManifestError(
                    f"invalid YAML: aliases make more than {MAX_NODES} values; write fewer aliases"
                )
            content = loader.construct_document(root)
            if content is not None:
                yield Document(content, root)
    finally:
        loader.dispose()


def _expanded_size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Return the number of values below a node; each is counted at each of its aliases."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    known = sizes.get(id(node))
    if known is not None:
        return known
    # An alias inside of its own value would have no end.
    sizes[id(node)] = MAX_NODES + 1
    children = (
        [part for pair in node.value for part in pair]
        if isinstance(node, yaml.MappingNode)
        else node.value
    )
    size = 1 + sum(_expanded_size(child, sizes) for child in children)
    sizes[id(node)] = size
    return size


def _problem(error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    place = "" if mark is None else f"{mark.line + 1}:{mark.column + 1}"
    context = f"{error.context}: " if error.context and not error.problem else ""
    return Problem(f"invalid YAML: {context}{error.problem or 'unreadable'}", "", place)
