"""The Helm charts in the repository; tests/charts renders and installs them."""

import functools
import re
import tomllib
from pathlib import Path

import pytest

from scripts.charts import operator_chart, values
from scripts.charts.__main__ import CHARTS, crd_template, files, images, plain
from scripts.charts.templates import Template, member, merged, raw, scalar
from scripts.yaml_files import parse_yaml

ROOT = Path(__file__).parents[2]
WRITTEN = {path.relative_to(CHARTS).as_posix() for path in CHARTS.rglob("*") if path.is_file()}
BY_HAND = {path for path in WRITTEN if path.endswith(("/_helpers.tpl", "/NOTES.txt"))}


@functools.cache
def generated() -> dict[str, str]:
    """The generated files; all tests share them, because they take a second."""
    return files()


@pytest.mark.parametrize("path", sorted(WRITTEN - BY_HAND))
def test_the_charts_are_as_generated(path: str) -> None:
    assert (CHARTS / path).read_text(encoding="utf-8") == generated()[path], "run: make manifests"


def test_nothing_else_lies_in_the_charts_but_helpers_and_notes() -> None:
    assert generated().keys() == WRITTEN - BY_HAND, "run: make manifests"
    assert {Path(path).name for path in BY_HAND} == {"_helpers.tpl", "NOTES.txt"}


def test_charts_have_the_version_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name in ("mcpproxy-operator", "mcpproxy-crds"):
        chart = parse_yaml(generated()[f"{name}/Chart.yaml"])
        assert chart["version"] == chart["appVersion"] == project["version"]


def test_every_value_is_used_by_a_template_and_every_used_value_exists() -> None:
    deployment = plain().only("Deployment")
    table = values.of_operator(deployment, images(deployment))
    helpers = (CHARTS / "mcpproxy-operator/templates/_helpers.tpl").read_text(encoding="utf-8")
    text = helpers + "".join(operator_chart.templates(plain()).values())
    used = set(re.findall(r"\.Values\.([A-Za-z.]+)", text))
    fields = {
        f"{image}.{field}"
        for image in ("image", "runtime.image")
        for field in re.findall(r"\.image\.([a-z]+)", helpers)
    }
    used = (used - {"image", "runtime.image"}) | fields
    assert used == {value.path for value in table}
    assert "(.Values.keep | ternary" in crd_template()


def test_expressions_of_other_programs_are_not_evaluated_by_helm() -> None:
    text = Template().text({"summary": "{{ $value }} pods"})
    assert text == "summary: '{{ `{{` }} $value {{ `}}` }} pods'\n"


def test_templates_keep_the_indentation_of_the_manifest() -> None:
    template = Template()
    manifest = {
        "spec": {
            template.lines(member("a", ".Values.a")): None,
            template.lines(scalar("b", ".Values.b")): None,
            "labels": {"x": "y", template.lines(merged(".Values.c", ".Values.d")): None},
            "image": template.expression("include 1"),
            "args": ["first", template.lines(raw("{{- if .e }}", "- second", "{{- end }}"))],
        }
    }
    assert (
        template.text(manifest)
        == """\
spec:
{{- with .Values.a }}
  a:
    {{- toYaml . | nindent 4 }}
{{- end }}
{{- with .Values.b }}
  b: {{ . | quote }}
{{- end }}
  labels:
    x: y
{{- with (merge (dict) .Values.c .Values.d) }}
    {{- toYaml . | nindent 4 }}
{{- end }}
  image: {{ include 1 }}
  args:
  - first
{{- if .e }}
  - second
{{- end }}
"""
    )
