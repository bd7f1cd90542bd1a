"""Count words by their first letter: the same job with keys that are known beforehand, as it had to be done when every
key needed a place before the first record came. All of the work lands on 26 keys, and every other word is dropped.

    mesh run examples/word_count_by_letter.py --nodes 3
"""

import string
import sysconfig
from pathlib import Path

import mesh

STDLIB = Path(sysconfig.get_paths()["stdlib"])
LETTERS = frozenset(string.ascii_lowercase)

input = mesh.param("input", default=STDLIB, help="a file, or a directory with *.py, *.txt and *.md")
output = mesh.param("output", default=None, kind=Path, help="a new or empty directory for the counts")


def letter(word: str) -> str | None:
    first = word[0].lower()
    return first if first in LETTERS else None  # None: this word is dropped


app = mesh.App("word-count-by-letter")
lines = app.source("lines", mesh.files(input, exclude=[STDLIB / "site-packages"]))
words = lines.flat_map(str.split).key_by(letter)
counts = words.fold("count", int, lambda count, _: count + 1)
counts.to(mesh.jsonl(output))
