"""Count words. Nobody knows them beforehand: a word's count comes into being at the word's first occurrence.

mesh run examples/word_count.py --nodes 3
mesh run examples/word_count.py --set input=book.txt --set output=counts
"""

import sysconfig
from pathlib import Path

import mesh

STDLIB = Path(sysconfig.get_paths()["stdlib"])  # real text that every machine has

input = mesh.param("input", default=STDLIB, help="a file, or a directory with *.py, *.txt and *.md")
output = mesh.param("output", default=None, kind=Path, help="a new or empty directory for the counts")

app = mesh.App("word-count")
lines = app.source("lines", mesh.files(input, exclude=[STDLIB / "site-packages"]))
words = lines.flat_map(str.split).key_by(lambda word: word)
counts = words.fold("count", int, lambda count, _: count + 1)
counts.to(mesh.jsonl(output))
