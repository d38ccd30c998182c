"""Compares the indexes of a queue on Redis with its tasks: what no test may leave different."""

from collections import Counter, defaultdict
from typing import Any

import redis

from fang_core.lifecycle import TERMINAL_STATES


def indexes_of_rows(client: redis.Redis, prefix: str) -> dict[str, Any]:
    """Returns the indexes that the tasks should have, by the names of their keys."""
    zsets: dict[str, dict[str, float]] = defaultdict(dict)
    sets: dict[str, set[str]] = defaultdict(set)
    hashes: dict[str, dict[str, str]] = defaultdict(dict)
    running: dict[str, Counter[str]] = defaultdict(Counter)
    for key in client.scan_iter(f"{prefix}t:*"):
        task_id, row = key.removeprefix(f"{prefix}t:"), client.hgetall(key)
        kind, task_type, state, lane = row["k"], row["T"], row["s"], row.get("L", "")
        size, digit = len(task_type.encode()), int(row["p"]) + 2
        zsets["ids"][task_id] = 0
        if state in TERMINAL_STATES:
            zsets[f"done:{state}:{task_type}"][task_id] = float(row["u"])
            continue
        if "h" in row:
            hashes["unique"][row["h"]] = task_id
        if state == "in_progress":
            sets[f"held:{row['P']}"].add(task_id)
            running[task_type][lane] += 1
            continue
        if "w" in row and row.get("a", "0") == "0":
            hashes["unclaimed"][row["w"]] = task_id
        crashes = int(row.get("c", 0))
        mark = f"s{row.get('g', '')}" if crashes >= 2 else "r" if state == "retried" else "-"
        level = f"{digit}{mark}{'=' if lane else ':'}{kind}"
        zsets[f"line:{size}:{task_type}:{level}"][task_id] = float(row["d"])
        zsets[f"levels:{task_type}"][f"{kind}\0{level[: -len(kind)]}"] = 0
        sets["types"].add(task_type)
        if lane:
            zsets[f"lane:{size}:{task_type}:{digit}:{lane}"][task_id] = float(row["d"])
            zsets[f"lanes:{size}:{task_type}:{digit}"][lane] = 0
    for task_type, lanes in running.items():
        hashes[f"running:{task_type}"] = {lane: str(number) for lane, number in lanes.items()}
        hashes["busy"][task_type] = str(lanes.total())
    return {**zsets, **sets, **hashes}


_READS = {"zset": lambda client, key: dict(client.zrange(key, 0, -1, withscores=True)), "set": redis.Redis.smembers}
_INDEXES = ("ids", "line", "levels", "types", "lane", "lanes", "done", "held", "running", "busy", "unique", "unclaimed")


def indexes_there(client: redis.Redis, prefix: str) -> dict[str, Any]:
    """Returns the indexes that there are."""
    found = {}
    for key in client.scan_iter(f"{prefix}*"):
        name = key.removeprefix(prefix)
        if name.split(":")[0] in _INDEXES:
            found[name] = _READS.get(client.type(key), redis.Redis.hgetall)(client, key)
    return found


def assert_exact(client: redis.Redis, prefix: str = "{fang}:") -> None:
    """Fails if an index has an entry too many or too few, or is left though it is empty."""
    assert indexes_there(client, prefix) == indexes_of_rows(client, prefix)
