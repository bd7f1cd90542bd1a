"""A disk without room, and an fsync that fails: real ones, in a child of its own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from mesh.runtime.store import DiskStore
from tests.store_kit import everything, run_python

FILL = """
import os, random, subprocess, sys, time
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "none", {folder!r}], check=True)
from mesh.runtime.store import DiskStore, StoreFull, TryAgain
from tests.store_kit import everything, numbered
ballast = open({folder!r} + "/ballast", "wb")
ballast.write(bytes(40_000_000))
ballast.flush()
store = DiskStore({folder!r} + "/store")
noise = random.Random(1)
committed = full = 0
try:
    for number in range(1, 10_000):
        store.put([*numbered(number), (9, 0, b"%d" % number, noise.randbytes(60_000))], {{0: b"%d" % number}})
        store.commit()
        committed = number
except StoreFull as error:
    full = str(error).startswith("the disk is full: ")
assert full and committed > 10, (full, committed)
try:
    store.commit()
except StoreFull as error:
    print("commit:", error)
assert store.metas() == {{0: b"%d" % committed}}, "reads go on"
os.truncate({folder!r} + "/ballast", 0)
for attempt in range(600):
    try:
        store.put(numbered(committed + 1), {{0: b"%d" % (committed + 1)}})
        break
    except TryAgain:
        time.sleep(0.1)
store.commit()
committed += 1
shown = subprocess.run([sys.executable, "-c", '''
import shutil
from mesh.runtime.errors import StartError
from mesh.runtime.store import DiskStore
from tests.store_kit import everything
for attempt in range(20):  # upkeep may take files away between two that are copied
    try:
        shutil.copytree({folder!r} + "/store", {folder!r} + "/copy-%d" % attempt)
        store = DiskStore({folder!r} + "/copy-%d" % attempt)
        break
    except (StartError, shutil.Error, FileNotFoundError):
        shutil.rmtree({folder!r} + "/copy-%d" % attempt)
print(sorted(store.metas().values()), len(everything(store, range(4))), set(everything(store, range(4)).values()))
'''], stdout=subprocess.PIPE, text=True).stdout
wanted = b"%d" % committed
assert shown == f"{{[wanted]}} 500 {{set([wanted])}}\\n", (shown, wanted)
print("went on")
os._exit(0)
"""

FAILING_FSYNC = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
static int fails(void) { return getenv("NO_SYNC_FILE") && access(getenv("NO_SYNC_FILE"), F_OK) == 0; }
int fdatasync(int fd) {
    if (fails()) { errno = EIO; return -1; }
    return ((int (*)(int)) dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
int fsync(int fd) {
    if (fails()) { errno = EIO; return -1; }
    return ((int (*)(int)) dlsym(RTLD_NEXT, "fsync"))(fd);
}
"""

SYNCING = """
import os
from pathlib import Path
from mesh.runtime.store import DiskStore, StoreFailed
store = DiskStore({path!r})
store.put([(1, 0, b"a", b"durable")], {{}})
store.commit()
Path(os.environ["NO_SYNC_FILE"]).touch()
store.put([(1, 0, b"a", b"not durable")], {{}})
try:
    store.commit()
except StoreFailed as error:
    print(error)
Path(os.environ["NO_SYNC_FILE"]).unlink()
for call in (store.commit, lambda: store.put([], {{}}), lambda: store.get(1, 0, b"a"), lambda: store.scan(1)):
    try:
        call()
        print("went on")
    except StoreFailed as error:
        print("failed before" in str(error))
os._exit(0)
"""


def can_mount(folder: Path) -> bool:
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_full_disk_refuses_packs_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    if not can_mount(tmp_path):
        pytest.skip("no small disk can be made here")
    code = FILL.format(folder=str(tmp_path))
    code_of_exit, said = run_python(code, ("unshare", "-rm"))
    assert code_of_exit == 0
    assert said == ["commit: the disk is full, and what was put before is not durable yet", "went on"]


def test_a_failed_fsync_is_the_last_thing_that_a_store_does(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler, so no fsync can be made to fail")
    (tmp_path / "fails.c").write_text(FAILING_FSYNC)
    build = [compiler, "-shared", "-fPIC", "-o", "fails.so", "fails.c", "-ldl"]
    subprocess.run(build, cwd=tmp_path, check=True)
    surroundings = {"LD_PRELOAD": str(tmp_path / "fails.so"), "NO_SYNC_FILE": str(tmp_path / "no-sync")}
    _, said = run_python(SYNCING.format(path=str(tmp_path / "store")), **surroundings)
    assert said[0].startswith("the store failed, and what is on the disk is not known: IO error: ")
    assert said[1:] == ["True"] * 4
    again = DiskStore(str(tmp_path / "store"))
    assert everything(again, range(2))[1, 0, b"a"] in (b"durable", b"not durable")
    again.close()
