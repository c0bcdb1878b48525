"""Metrics that the rules and dashboards query, and metrics of a program."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

_SELECTOR = re.compile(r"([a-z_:][a-z0-9_:]*)(?:\{([^}]*)\})?(?![a-z0-9_:(]|\s*\()")
_MATCHER = re.compile(r'([a-z_]+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
_RANGE = re.compile(r"\[[^\]]*\]")
_TEXTS = re.compile(r'(?:, "[^"]*"){4}')
"""The texts of label_replace."""
_REPLACED = re.compile(r'label_replace\(.*?\), "([a-z_]+)", ')
_WORDS = frozenset({"by", "without", "on", "ignoring", "and", "or", "unless", "bool"})
_OF_EVERY_POD = frozenset({"namespace", "pod", "container", "endpoint", "job", "instance"})
"""Labels that the Prometheus operator gives to all that any PodMonitor has scraped."""


def target_labels(monitor: dict[str, Any]) -> frozenset[str]:
    """The labels that Prometheus adds to what it scrapes through this PodMonitor."""
    added: list[set[str]] = []
    for endpoint in monitor["spec"]["podMetricsEndpoints"]:
        rules = endpoint.get("relabelings", [])
        assert all(rule["action"] == "replace" for rule in rules)
        added.append({rule["targetLabel"] for rule in rules})
    return _OF_EVERY_POD | set.intersection(*added)


@dataclass(frozen=True, slots=True)
class Selector:
    """One metric that an expression asks for."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]
    """Label, operator, value."""


def selectors(expression: str) -> list[Selector]:
    """The metrics of an expression."""
    bare = _TEXTS.sub("", _GROUPING.sub("", _RANGE.sub("", expression)))
    return [
        Selector(match[1], tuple(_MATCHER.findall(match[2] or "")))
        for match in _SELECTOR.finditer(bare)
        if match[1] not in _WORDS
    ]


def groupings(expression: str) -> set[str]:
    """The labels that an expression groups by."""
    lists = _GROUPING.findall(expression)
    return {label.strip() for result in lists for label in result.split(",") if label.strip()}


@dataclass(frozen=True, slots=True)
class Offer:
    """Samples of /metrics: for each sample's name, its sets of labels."""

    samples: dict[str, list[dict[str, str]]]
    added: frozenset[str]
    """Labels that Prometheus adds."""
    possible: Mapping[str, frozenset[str]]
    """Values that labels may have which have not come up yet."""

    @classmethod
    def of(
        cls, text: str, added: frozenset[str], possible: Mapping[str, frozenset[str]] | None = None
    ) -> "Offer":
        """The offer of one answer of /metrics."""
        samples: dict[str, list[dict[str, str]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples.setdefault(sample.name, []).append(dict(sample.labels))
        return cls(samples, added, possible or {})

    def lacks(self, expression: str) -> Iterator[str]:
        """Yield the metrics and labels that an expression uses but that do not exist.

        Patterns are words with `|` between them, or variables of a dashboard.
        """
        known = {"le"} & {
            label for sets in self.samples.values() for item in sets for label in item
        }
        for wanted in selectors(expression):
            sets = self.samples.get(wanted.name)
            if sets is None:
                yield f"no metric {wanted.name}"
                continue
            own = {label for entry in sets for label in entry}
            known |= own
            for label, _, value in wanted.matchers:
                if label not in own | self.added:
                    yield f"{wanted.name} has no label {label}"
                elif label in own:
                    values = {element.get(label, "") for element in sets} | self.possible.get(
                        label, set()
                    )
                    for word in value.split("|"):
                        if word not in values and not word.startswith("$"):
                            yield f"{wanted.name} never has {label}={word}"
        known |= set(_REPLACED.findall(expression))
        for label in groupings(expression) - known - self.added:
            yield f"nothing has the label {label}: {expression}"
