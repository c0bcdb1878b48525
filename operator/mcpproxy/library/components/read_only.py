"""JSON values that can't be changed, however deep. Imports nothing of the project."""

from typing import Any, NoReturn


def _refuse(self: Any, *arguments: Any, **named: Any) -> NoReturn:
    raise TypeError("a mirrored component is read-only: change a copy() of it")


class ReadOnlyDict(dict[str, Any]):
    """An object; equal to a dict, and JSON as one."""

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __deepcopy__(self, memo: Any) -> dict[str, Any]:
        return dict(thaw(self))


class ReadOnlyList(list[Any]):
    """An array; equal to a list, and JSON as one."""

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __deepcopy__(self, memo: Any) -> list[Any]:
        return list(thaw(self))


def freeze(value: Any) -> Any:
    """A JSON value that can't be changed."""
    return _copied(value, ReadOnlyDict, ReadOnlyList)


def thaw(value: Any) -> Any:
    """A copy that can be changed."""
    return _copied(value, dict, list)


def _copied(value: Any, object_type: type[dict[str, Any]], array_type: type[list[Any]]) -> Any:
    # A server decides how deep its values are: recursion would have a limit.
    left: list[tuple[Any, Any]] = []

    def begun(original: Any) -> Any:
        if not isinstance(original, dict | list):
            return original
        copied = object_type() if isinstance(original, dict) else array_type()
        left.append((original, copied))
        return copied

    whole = begun(value)
    while left:
        original, copied = left.pop()
        if isinstance(original, dict):
            for name, member in original.items():
                dict.__setitem__(copied, name, begun(member))
        else:
            list.extend(copied, map(begun, original))
    return whole
