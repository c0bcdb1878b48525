"""Deeply immutable JSON values. Must not import anything of the project."""

from typing import Any, NoReturn


def _refuse(self: Any, *arguments: Any, **named: Any) -> NoReturn:
    raise TypeError("a mirrored component is read-only; modify a copy() of it")


class ReadOnlyDict(dict[str, Any]):
    """A read-only JSON object; equal to a dict, and encoded like one."""

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __deepcopy__(self, memo: Any) -> dict[str, Any]:
        return dict(thaw(self))


class ReadOnlyList(list[Any]):
    """A read-only JSON array; equal to a list, and encoded like one."""

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __deepcopy__(self, memo: Any) -> list[Any]:
        return list(thaw(self))


def freeze(value: Any) -> Any:
    """Return a read-only copy of a JSON value."""
    return _deep_copy(value, ReadOnlyDict, ReadOnlyList)


def thaw(value: Any) -> Any:
    """Return a modifiable copy of a JSON value."""
    return _deep_copy(value, dict, list)


def _deep_copy(value: Any, object_type: type[dict[str, Any]], array_type: type[list[Any]]) -> Any:
    # Servers determine the depth of these values, so recursion could exceed its limit.
    pending: list[tuple[Any, Any]] = []

    def copy_later(original: Any) -> Any:
        if not isinstance(original, dict | list):
            return original
        copied = object_type() if isinstance(original, dict) else array_type()
        pending.append((original, copied))
        return copied

    root = copy_later(value)
    while pending:
        original, copied = pending.pop()
        if isinstance(original, dict):
            for name, member in original.items():
                dict.__setitem__(copied, name, copy_later(member))
        else:
            list.extend(copied, map(copy_later, original))
    return root
