"""Fields of clients' files that restrict tools are kept, or the file is refused."""

from typing import Any

import pytest

from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.proxy.config import tool_filters
from mcpproxy.proxy.config.targets import from_mcp_servers


def tools(**server: Any) -> Any:
    """The `tools` of the backend of a server."""
    content = {"mcpServers": {"a": {"url": "http://a/mcp", **server}}}
    (backend,) = from_mcp_servers(content).proxy.to_manifest()["spec"]["backends"]
    return backend.get("tools")


@pytest.mark.parametrize("member", list(tool_filters.INCLUDE))
def test_a_list_of_allowed_tools_hides_all_others(member: str) -> None:
    assert tools(**{member: ["get", "set"]}) == {"include": ["get", "set"]}


@pytest.mark.parametrize("member", tool_filters.EXCLUDE)
def test_a_list_of_denied_tools_hides_them(member: str) -> None:
    assert tools(**{member: ["delete"]}) == {"exclude": ["delete"]}


def test_several_lists_are_in_force_together() -> None:
    result = tools(includeTools=["a", "b", "c"], enabled_tools=["b", "c", "d"], excludeTools=["c"])
    assert result == {"include": ["b", "c"], "exclude": ["c"]}


def test_all_tools_can_be_allowed_by_a_star() -> None:
    assert tools(tools=["*"]) is None


@pytest.mark.parametrize(
    ("server", "message"),
    [
        ({"includeTools": []}, 'includeTools: leaves no tool; name a tool, or write "disabled"'),
        ({"includeTools": ["a"], "tools": ["b"]}, "includeTools: leaves no tool"),
        ({"includeTools": "a"}, "includeTools: expected a list of names of tools"),
        ({"excludeTools": [1]}, "excludeTools: expected a list of names of tools"),
        ({"includeTools": ["*"]}, r"includeTools: '\*' is a pattern"),
        ({"enabled_tools": ["get_?"]}, "is a pattern; write the names"),
        ({"include_tags": ["x"]}, "include_tags: restricts the server"),
        ({"exclude_tags": ["x"]}, "exclude_tags: restricts the server"),
        ({"toolFilter": {}}, "toolFilter: restricts the server"),
        ({"allowedPrompts": []}, "allowedPrompts: restricts the server"),
        ({"denyList": ["x"]}, "denyList: restricts the server"),
        ({"permissions": {}}, "permissions: restricts the server"),
        ({"tools": {"a": {"arguments": {"x": {"hide": True}}}}}, "tools.a.arguments: changes"),
        ({"tools": {"a": {"enabled": "no"}}}, "tools.a.enabled: expected true or false"),
    ],
)
def test_a_restriction_that_cannot_be_kept_is_refused(server: Any, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        tools(**server)


def test_changes_of_tools_become_overrides() -> None:
    changes = {"a": {"name": "b", "description": "B", "tags": ["x"]}, "c": {"enabled": False}}
    assert tools(tools=changes) == {
        "overrides": [
            {"name": "a", "rename": "b", "description": "B"},
            {"name": "c", "enabled": False},
        ]
    }


@pytest.mark.parametrize("member", sorted(tool_filters.HARMLESS))
def test_members_about_approval_by_the_user_do_not_restrict_the_proxy(
    member: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert tools(**{member: ["a"]}) is None
    assert not caplog.records
