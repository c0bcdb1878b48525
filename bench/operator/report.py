"""Tables of a measurement of the operator."""

from dataclasses import dataclass


@dataclass
class Run:
    size: int
    figures: dict


def document(runs):
    return ""
