"""What harms a database, for `bench_store`: kill -9 in a commit, damaged files, a full disk. Is it told, or wrong?"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from tools.store_child import child, result
from tools.store_engines import ENGINES, Changes
from tools.store_packs import META, name_of, numbered, slot_first, state
from tools.store_speed import upkeep

TRIALS = 15


def write_for_ever(engine: str, path: str, first: int) -> dict[str, Any]:
    store = ENGINES[engine](path)
    for number in itertools.count(first):
        store.put(numbered(number))
        print(number, flush=True)
    raise AssertionError


def read_number(engine: str, path: str, keys: int) -> dict[str, Any]:
    store = ENGINES[engine](path)
    found = {value for _, value in store.scan(META, b"\x02")}
    store.close()
    return {"numbers": sorted(int.from_bytes(each[:8], "big") for each in found)}


def kill(engine: str, folder: str, keys: int) -> dict[str, Any]:
    rng = random.Random(3)
    path, first, rounds, torn, lost, ahead = f"{folder}/kill", 1, 10, 0, 0, 0
    for _ in range(rounds):
        with child(write_for_ever, engine, path, first, quiet=True) as process:
            assert process.stdout is not None
            acked = int(process.stdout.readline())
            time.sleep(rng.uniform(0.05, 0.5))
            process.kill()
            acked = max([acked, *(int(line) for line in process.stdout.read().split(b"\n")[:-1])])
        found = result(read_number, engine, path, keys)["numbers"]
        torn += len(found) != 1
        lost += found[0] < acked
        ahead += found[0] > acked
        first = found[-1] + 1
    return {"rounds": rounds, "torn": torn, "lost": lost, "whole_but_not_yet_acknowledged": ahead}


def build(engine: str, path: str, keys: int) -> dict[str, Any]:
    """Something in every part of the database: old and new packs, then killed."""
    store = ENGINES[engine](path)
    for number in range(20):
        store.put(fixed_pack(number))
    print(json.dumps({}), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def fixed_pack(number: int) -> Changes:
    rng = random.Random(number)
    return sorted({slot_first(name_of(rng.randrange(20_000))): state(rng) for _ in range(3000)}.items())


def look(engine: str, path: str, keys: int) -> dict[str, Any]:
    """Everything that can be read against everything that was written: by scan, then key by key."""
    model: dict[bytes, bytes] = {}
    for number in range(20):
        model.update(fixed_pack(number))
    try:
        store = ENGINES[engine](path)
        found = dict(store.scan(META, b"\x02"))
        differs = found != model or any(store.get(key) != value for key, value in model.items())
    except Exception as error:
        return {"verdict": "told", "error": f"{type(error).__name__}: {error}"[:160].replace(path, "")}
    return {"verdict": "wrong in silence" if differs else "harmless"}


def damage(engine: str, folder: str, keys: int) -> dict[str, Any]:
    """After a clean close and after a kill -9, so that the log is hit as well."""
    out: dict[str, Any] = {}
    killed, closed = f"{folder}/killed", f"{folder}/closed"
    result(build, engine, killed, keys)
    shutil.copytree(killed, closed)
    result(upkeep, engine, closed, keys)
    for origin, name in ((closed, "closed"), (killed, "killed")):
        for how in ("nothing", "flip", "zero", "cut"):
            rng = random.Random(f"{how} {name}")
            verdicts: dict[str, int] = {}
            for _ in range(1 if how == "nothing" else TRIALS):
                verdict = one_damage(engine, origin, f"{folder}/copy", how, rng)
                verdicts[verdict] = verdicts.get(verdict, 0) + 1
            out[f"{how}, {name}"] = verdicts
    return out


def one_damage(engine: str, origin: str, copy: str, how: str, rng: random.Random) -> str:
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(origin, copy)
    told_nothing = ("LOG", "LOCK", "lock.mdb", "OPTIONS", "IDENTITY")
    files = [f for f in sorted(Path(copy).rglob("*")) if f.is_file() and not f.name.startswith(told_nothing)]
    files = [file for file in files if file.stat().st_size]
    file = rng.choices(files, weights=[each.stat().st_size for each in files])[0]
    data = bytearray(file.read_bytes().rstrip(b"\0"))  # what was reserved and never written holds nothing
    place = rng.randrange(len(data))
    if how == "flip":
        data[place] ^= 1 << rng.randrange(8)
    elif how == "zero":
        place -= place % 4096
        data[place : place + 4096] = bytes(len(data[place : place + 4096]))
    elif how == "cut":
        del data[max(0, len(data) - rng.randint(1, 30_000)) :]
    file.write_bytes(data)
    with child(look, engine, copy, 0, quiet=True) as process:
        answer = process.communicate(timeout=120)[0]
    if process.returncode < 0:
        return f"crash ({signal.Signals(-process.returncode).name})"
    return str(json.loads(answer.splitlines()[-1])["verdict"]) if answer else "told"


def full(engine: str, folder: str, keys: int) -> dict[str, Any]:
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "none", folder]).returncode:
        return {"skipped": "no small disk can be mounted"}
    try:
        out = result(fill_up, engine, folder, keys)
        return out | {"after_kill": result(read_number, engine, f"{folder}/db", keys)["numbers"]}
    finally:
        subprocess.run(["umount", folder], check=True)


def fill_up(engine: str, folder: str, keys: int) -> dict[str, Any]:
    """Until there is no room; then 40 MB are given back, and the same process tries for half a minute."""
    ballast = Path(folder) / "ballast"
    ballast.write_bytes(os.urandom(40_000_000))
    store = ENGINES[engine](f"{folder}/db")
    packs = (random.Random(n).randbytes(8) for n in itertools.count())
    acked, raised = 0, ""
    padding = 20_000
    try:
        for number in range(1, 500):
            extra = [
                (b"\x03" + next(packs) + each.to_bytes(2, "big"), os.urandom(200)) for each in range(padding // 20)
            ]
            store.put(numbered(number) + extra)
            acked = number
    except Exception as error:
        raised = f"{type(error).__name__}: {error}"[:200].replace(folder, "")
    ballast.unlink()
    out: dict[str, Any] = {"packs_before": acked, "raised": raised}
    started = time.perf_counter()
    while time.perf_counter() - started < 30:
        try:
            store.put(numbered(acked + 1))
            out |= {"goes_on_after_s": round(time.perf_counter() - started, 2), "acked": acked + 1}
            break
        except Exception as error:
            out["then"] = f"{type(error).__name__}: {error}"[:200].replace(folder, "")
            time.sleep(0.1)
    print(json.dumps(out), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError
