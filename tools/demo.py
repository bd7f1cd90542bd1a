"""`make demo`: count every word of Python's standard library on three nodes, and check it against a plain loop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402

from mesh.app.load import load_app  # noqa: E402
from nodes.ring import picture  # noqa: E402

EXAMPLE = ROOT / "examples" / "word_count.py"
MESH = [sys.executable, "-P", "-m", "nodes.cli"]
NODES = 3
TOP = 10


def main() -> int:
    console = Console(highlight=False)
    console.print(f"[bold]hashmesh[/]: every word of Python's standard library, counted on {NODES} nodes")
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "counts"
        port = _free_port()
        run = subprocess.Popen(
            [
                *MESH, "run", str(EXAMPLE), "--nodes", str(NODES), "--set", f"output={output}",
                "--http", f"127.0.0.1:{port}", "--keep", "--json",
            ],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )  # fmt: skip
        try:
            at = f"http://127.0.0.1:{port}"
            _wait_until_done(run, at)
            ring, status = (json.load(urlopen(f"{at}/v1/{what}")) for what in ("ring", "status"))
        finally:
            run.send_signal(signal.SIGINT)
            summary, _ = run.communicate(timeout=30)
        counted = _counts(output)
    expected = _plain_counts()
    console.print("", picture(ring, status, width=78, colours=console.is_terminal), "", sep="\n")
    _show(console, json.loads(summary.splitlines()[-1]), counted)
    equal = counted == expected
    console.print(f"equal to collections.Counter: [bold {'green' if equal else 'red'}]{'yes' if equal else 'no'}[/]")
    return 0 if equal and run.returncode == 0 else 1


def _wait_until_done(run: subprocess.Popen[bytes], at: str) -> None:
    """The run shows its own progress on stderr meanwhile."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if run.poll() is not None:
            raise SystemExit(run.returncode or 1)
        waited = subprocess.run(
            [*MESH, "status", "--wait", "done", "--timeout", "5", "--at", at], cwd=ROOT, capture_output=True
        )
        if waited.returncode == 0:
            return
    raise SystemExit("the count did not end within five minutes")


def _counts(output: Path) -> Counter[str]:
    """What the nodes wrote: a line ["word", count so far] a record; a word's last line has its count."""
    counts: Counter[str] = Counter()
    for part in sorted(output.glob("*.jsonl")):
        with part.open(encoding="utf-8") as lines:
            for line in lines:
                word, so_far = json.loads(line)
                counts[word] = max(counts[word], so_far)
    return counts


def _plain_counts() -> Counter[str]:
    """The same files, in this process, with a Counter and nothing of the mesh but the path."""
    app = load_app(str(EXAMPLE))
    root = Path(app.params["input"].value)
    counts: Counter[str] = Counter()
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if (Path(folder) / name) != root / "site-packages"]
        for path in (Path(folder) / name for name in names):
            if path.suffix in (".py", ".txt", ".md") and not path.is_symlink():
                for line in path.read_bytes().decode("utf-8", "replace").split("\n"):
                    counts.update(line.split())
    return counts


def _show(console: Console, summary: dict[str, Any], counts: Counter[str]) -> None:
    words = [(word, count) for word, count in counts.most_common() if word.isalpha()][:TOP]
    console.print("top words: " + "  ".join(f"{word} {count:,}" for word, count in words))
    console.print(
        f"{summary['records_keyed']:,} words, {summary['keys']:,} distinct, in {summary['seconds']:.1f} s: "
        f"[bold]{summary['rate']:,.0f} words/s[/]"
    )


def _free_port() -> int:
    """The first of NODES ports in a row that are free now."""
    import socket

    for first in range(17480, 18480, NODES):
        try:
            for port in range(first, first + NODES):
                socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return first
    raise SystemExit("no free ports on 127.0.0.1")


if __name__ == "__main__":
    raise SystemExit(main())
