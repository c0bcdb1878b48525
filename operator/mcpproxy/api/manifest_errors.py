"""Errors of manifests and configuration files: one problem for each invalid field."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Self

from mcpproxy.api.untrusted_text import clean_text

MAX_PROBLEM = 2000
"""Maximum length of a line about a problem."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One invalid field."""

    message: str
    field: str = ""
    """Path of the field, such as `spec.backends[0].url`; empty for the file as a whole."""
    place: str = ""
    """File, line and column as far as they are known, such as `mcpproxy.yaml:7`."""

    def __str__(self) -> str:
        text = f"{self.field}: {self.message}" if self.field else self.message
        if self.place[:1].isdigit():
            # The field says more than a line without its file.
            return text if self.field else f"line {self.place}: {text}"
        return f"{self.place}: {text}" if self.place else text


class ManifestError(ValueError):
    """A manifest or another input is invalid. The message names the field and the remedy."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.problems: tuple[Problem, ...] = (Problem(message, field),)

    @classmethod
    def of(cls, problems: list[Problem]) -> Self:
        """Return an error with these problems, of which there is at least one."""
        error = cls(problems[0].message)
        error.problems = tuple(problems)
        return error

    def __str__(self) -> str:
        return "; ".join(map(str, self.problems))

    def lines(self, prefix: str) -> Iterator[str]:
        """Yield one line for each problem, with its file and its line."""
        for problem in self.problems:
            yield clean_text(f"{prefix}: {problem}", MAX_PROBLEM)

    def with_lines(self, line_of: Callable[[str], int]) -> Self:
        """Return this error with the line of each field as its place."""
        return self.of(
            [
                problem if problem.place else replace(problem, place=str(line_of(problem.field)))
                for problem in self.problems
            ]
        )

    def in_file(self, file: str) -> Self:
        """Return this error with the file in front of each place."""
        return self.of(
            [
                replace(problem, place=f"{file}:{problem.place}" if problem.place else file)
                for problem in self.problems
            ]
        )

    def rename_fields(self, rename: Callable[[Problem], Problem]) -> Self:
        """Return this error about the fields of the file from which the manifest was made."""
        return self.of([rename(problem) for problem in self.problems])
