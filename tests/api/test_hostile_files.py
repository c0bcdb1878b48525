"""Files made to exhaust or confuse the reader are refused with one line."""

import itertools
import json
import time
from pathlib import Path

import pytest

from mcpproxy.api import manifest, yaml_documents
from mcpproxy.api.field_messages import describe_pattern
from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.api.yaml_documents import MAX_CHARACTERS, read_documents
from mcpproxy.proxy.config.mcp_json import read_file, read_json
from tests.support.crd import version

LETTERS = "abcdefghijklmnopqrstuvwxyz"
MERGES = "a: &a {k: v}\n" + "".join(
    f"{b}: &{b} {{<<: [*{a}, *{a}]}}\n" for a, b in itertools.pairwise(LETTERS)
)
HOSTILE = {
    "merge keys that double": (MERGES, "aliases make more than"),
    "a list in itself": ("a: &a [*a]", "aliases make more than"),
    "many keys": ("? a\n" * 10_001, "more than 10000 values"),
    "deep lists": ("[" * 5_000, "nested too deeply"),
    "deep mappings": ("{a: " * 5_000, "nested too deeply"),
    "a large file": ("#" * (MAX_CHARACTERS + 1), "more than 4 MiB"),
    "a key that is a list": ("? [a]\n: b", "expected a text as key|unhashable key"),
    "a control character": ("a: \x07", "special characters are not allowed"),
    "an unknown tag": ("a: !!python/object:os.system {}", "could not determine a constructor"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_yaml_is_refused_in_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_documents, "MAX_WRITTEN", 10_000)
    text, message = HOSTILE[name]
    begun = time.process_time()
    with pytest.raises(ManifestError, match=message) as raised:
        manifest.load(text)
    assert time.process_time() - begun < 10
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "text",
    ["[" + "a, " * 1_001 + "]", "- a\n" * 1_001, "? a\n" * 1_001, "a: {b: c}\n" * 334],
    ids=["items", "lines", "keys", "mappings"],
)
def test_values_of_any_form_are_counted(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_documents, "MAX_WRITTEN", 1_000)
    with pytest.raises(ManifestError, match=r"^more than 1000 values; split the file$"):
        manifest.load(text)


@pytest.mark.parametrize("text", ['["' * 5, "[" * 100_000, '{"a":' * 100_000])
def test_hostile_json_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ManifestError, match="invalid JSON") as raised:
        read_json(text)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("part", [",/*", '"', '\\"', "//", ", ", "/* */,", '"\\"'])
def test_comments_and_commas_are_read_in_linear_time(part: str) -> None:
    begun = time.process_time()
    with pytest.raises(ManifestError):
        read_json("{" + part * 200_000)
    assert time.process_time() - begun < 10


def test_a_large_or_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    path.write_bytes(b" " * (MAX_CHARACTERS + 1))
    with pytest.raises(ManifestError, match=r"mcp\.json: more than 4 MiB"):
        read_file(path)
    path.write_bytes(b'{"a": "\xff\xfe"}')
    with pytest.raises(ManifestError, match=r"mcp\.json: byte 7 is not UTF-8"):
        read_file(path)
    with pytest.raises(ManifestError, match="Is a directory"):
        read_file(tmp_path)


def test_messages_do_not_show_values_that_may_be_secret() -> None:
    backend = {
        "name": "a",
        "url": "ftp://user:hunter2@host/",
        "headers": [{"name": "A", "value": "hunter2\n"}, {"name": "B", "value": 5}],
    }
    content = {
        "apiVersion": "mcpproxy.dev/v1alpha1",
        "kind": "MCPProxy",
        "metadata": {"name": "a"},
        "spec": {"backends": [backend]},
    }
    with pytest.raises(ManifestError) as raised:
        manifest.load(json.dumps(content))
    assert len(raised.value.problems) == 3
    assert "hunter2" not in str(raised.value)


def test_a_field_is_found_in_a_file_whose_keys_have_dots() -> None:
    (document,) = read_documents(
        '{\n "amp.mcpServers": {\n  "a.b": {},\n  "a": {\n   "x": [1,\n 2]}}}'
    )
    assert document.line_of("amp.mcpServers.a.b") == 3
    assert document.line_of("amp.mcpServers.a.x[1]") == 6
    assert document.line_of("amp.mcpServers.a.unknown") == 4


def _patterns(schema: object) -> set[str]:
    if isinstance(schema, dict):
        own = {schema["pattern"]} if isinstance(schema.get("pattern"), str) else set()
        return own.union(*map(_patterns, schema.values()))
    return set().union(*map(_patterns, schema)) if isinstance(schema, list) else set()


def test_every_pattern_of_the_api_is_described_in_words() -> None:
    patterns = _patterns(version())
    assert len(patterns) > 25
    assert [p for p in patterns if "^" in describe_pattern(p)] == []
