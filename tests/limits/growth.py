"""Finds the places in the source where a peer could make the process hold or wait for more."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2] / "operator" / "mcpproxy"
PACKAGES = ("proxy", "library", "plan", "cluster/pods")
CALLS = {
    "create_task": "task",
    "ensure_future": "task",
    "spawn": "task",
    "run_in_executor": "thread",
    "to_thread": "thread",
    "Thread": "thread",
    "Queue": "queue",
    "deque": "queue",
    "create_future": "wait",
    "Event": "wait",
    "Lock": "wait",
    "Semaphore": "wait",
    "Condition": "wait",
    "open_connection": "connection",
    "create_connection": "connection",
    "open_unix_connection": "connection",
    "start_server": "connection",
    "create_server": "connection",
    "start_tls": "connection",
    "create_subprocess_exec": "process",
    "open_process": "process",
    "Popen": "process",
}
"""Names of functions → kinds of what calling them makes."""
COLLECTIONS = {"dict", "list", "set", "bytearray", "defaultdict", "OrderedDict", "Counter"}
MUTABLE = (ast.Dict, ast.List, ast.Set, ast.DictComp, ast.ListComp, ast.SetComp)


def places() -> list[str]:
    """All places, as `path:Class.function:kind` or, for attributes, `path:Class.attribute`."""
    result = set()
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            tree = ast.parse(path.read_text(encoding="utf-8"))
            result |= {f"{name}:{place}" for place in _in_scope(tree, ())}
    return sorted(result)


def _in_scope(node: ast.AST, scope: tuple[str, ...]) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        inner = scope
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            inner = (*scope, child.name)
        yield from _at(child, scope)
        yield from _in_scope(child, inner)


def _at(node: ast.AST, scope: tuple[str, ...]) -> Iterator[str]:
    if isinstance(node, ast.Call):
        kind = CALLS.get(_called(node))
        if kind is not None:
            yield f"{'.'.join(scope)}:{kind}"
    elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if _is_collection(node.value):
            yield from (name for target in targets for name in _attribute(target, scope))


def _called(call: ast.Call) -> str:
    result = call.func
    return result.attr if isinstance(result, ast.Attribute) else getattr(result, "id", "")


def _is_collection(value: ast.expr) -> bool:
    if isinstance(value, MUTABLE):
        # A literal with content is a constant of the program, not something that grows.
        return not (getattr(value, "elts", None) or getattr(value, "keys", None))
    if not isinstance(value, ast.Call):
        return False
    if _called(value) == "field":
        made = [word.value for word in value.keywords if word.arg == "default_factory"]
        return any(isinstance(name, ast.Name) and name.id in COLLECTIONS for name in made)
    return _called(value) in COLLECTIONS and not (value.args or value.keywords)


def _attribute(target: ast.expr, scope: tuple[str, ...]) -> Iterator[str]:
    """Attributes of objects and globals live longer than a call; local names do not."""
    if isinstance(target, ast.Attribute) and getattr(target.value, "id", "") == "self":
        yield f"{scope[0] if scope else ''}.{target.attr}"
    elif isinstance(target, ast.Name) and (not scope or scope[-1][:1].isupper()):
        yield ".".join((*scope, target.id))
