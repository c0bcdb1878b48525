"""docs/plan.md names all there is."""

import argparse

from mcpproxy.plan.command import add_arguments
from mcpproxy.plan.document import plan_differences, removed_plan
from tests.plan.planning import ROOT
from tests.plan.test_document import a_plan

TEXT = (ROOT / "docs" / "plan.md").read_text(encoding="utf-8")


def test_every_option_is_documented() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    options = parser._option_string_actions
    assert len(options) > 8
    short = {"--file": "-f", "--output": "-o"}
    assert [name for name in options if f"`{short.get(name, name)}" not in TEXT] == []


def test_every_member_of_the_json_document_is_documented() -> None:
    plan = a_plan({"a": ["same"], "b": ["same", "x" * 65]})
    plan["differences"] = plan_differences(None, plan)
    entries = [plan["tools"][0], plan["clashes"][0], plan["tooLong"][0], plan["differences"]]
    members = {
        *plan,
        *removed_plan(plan),
        "gone",
        *(member for entry in entries for member in entry),
    }
    assert {"definition", "servedBy", "length", "withheld", "approved"} <= members
    missing = [name for name in members if f"`{name}`" not in TEXT and f"`.{name}`" not in TEXT]
    lists = {"backends", "failed", "tools", "prompts", "resources", "resourceTemplates"}
    lists |= {"clashes", "tooLong"}
    assert [name for name in missing if name not in lists or f"`.{name}[]`" not in TEXT] == []
