"""What an operator or an author did wrong, all of it at once, each with its place and what was probably meant.

A `Mistake` is shown as `file:line:column: text`. One that was typed on the command line or in the environment has no
line: its `file` then says where it was typed.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One thing to correct."""

    file: str
    line: int  # from 1; 0: the place has no lines
    column: int  # from 1; 0: the whole line
    text: str

    def __str__(self) -> str:
        place = [self.file] + [str(number) for number in (self.line, self.column) if number]
        return ":".join(place) + ": " + self.text


class Failure(Exception):
    """The command ends here: sentences for a person, and the exit code of the contract."""

    def __init__(self, code: int, *sentences: str) -> None:
        super().__init__("\n".join(sentences))
        self.code = code
        self.sentences = sentences


class Mistaken(Failure):
    """Config or app mistakes, every one of them."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__(2, *[str(mistake) for mistake in mistakes])
        self.mistakes = tuple(mistakes)


def near(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant."""
    found = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown word."""
    options = list(known)
    guess = near(word, options)
    if guess:
        return f'; did you mean "{guess}"?'
    return f"; known: {', '.join(options)}" if options else ""
