"""Several processes race for what only one of them, or so many of them, may have."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta

import pytest
import redis

from fang_core.backends.pools import Declaration
from fang_core.conformance.tasks import ThreadedLimitedNote
from fang_core.flow.limits import FlowRule, Limit, Rate, rules_as_json
from fang_redis import RedisQueue
from tests.driven import Driven
from tests.forking import Forked
from tests.redis.indexes import assert_exact

PROCESSES = 4
TYPE = "conformance.limited"
IMPORTS = ("fang_redis", "fang_core.conformance", "tests.driven")

COMMON = """
import sys, time
from datetime import UTC, datetime, timedelta
import redis
from fang_core.conformance.clients import Client
from fang_core.conformance.tasks import ThreadedLimitedNote, ThreadedNote
from fang_redis import RedisQueue
from tests.driven import Driven
url = sys.argv[1]
queue = RedisQueue(url)
board = redis.Redis.from_url(url, decode_responses=True)
def client_of(*task_types):
    kinds = (ThreadedLimitedNote.__fang_options__.kind,)
    return Client(lambda f, *args, **options: f(*args, **options), Driven(queue.store()), "threaded",
        task_types=task_types, kinds=kinds)
def ready():  # all processes begin together
    board.incr("ready")
    while int(board.get("ready")) < int(sys.argv[2]):
        time.sleep(0.001)
"""

CLAIMS = (
    COMMON
    + """
client = client_of("conformance.limited")
client.register()
ready()
place = ""
while int(board.get("left")) > 0:
    claim = client.claim_lanes(5, after_lane=place)
    place = claim.after_lane or place
    for task in claim.tasks:
        lane = queue.find_task_by_id(task.id).lane
        board.rpush("running", board.incr("now"))
        board.rpush("running:" + lane, board.incr("now:" + lane))
        board.rpush("started", str(task.id))
        board.rpush("times", claim.now.timestamp())
    time.sleep(0.001)
    for task in claim.tasks:
        lane = queue.find_task_by_id(task.id).lane
        board.decr("now")
        board.decr("now:" + lane)
        assert client.end(task)
        board.decr("left")
client.unregister()
client.close()
queue.close()
"""
)

INSERTS = (
    COMMON
    + """
ready()
for n in range(100):
    task = queue.insert_task(ThreadedNote(n=n), uniq=True)
    board.rpush("inserted", f"{n} {'met' if task.conflict else 'new'} {task.id}")
queue.close()
"""
)

TICKS = (
    COMMON
    + """
from fang_core.backends.ticks import Tick
from fang_core.backends.scheduling import tick_id
from fang_core.tasks.insertion import Overrides, Rules
client = client_of()
first = datetime.fromisoformat(sys.argv[3])
ready()
for n in range(50):
    at = first + timedelta(seconds=n)
    row = Overrides(scheduled_at=at).new_task(ThreadedNote(n=n), Rules())
    raised = None
    while raised is None:
        raised = client.tick(Tick("race", at, row._replace(id=tick_id("race", at))))
    if raised:
        board.rpush("ticked", n)
client.close()
queue.close()
"""
)


def race(url: str, code: str, *arguments: str) -> None:
    """Has several processes run this code, and waits for their ends."""
    with ExitStack() as stack:
        command = ("-c", code, url, str(PROCESSES), *arguments)
        running = [stack.enter_context(closing(Forked(*command, imports=IMPORTS))) for _ in range(PROCESSES)]
        for each in running:
            _, errors = each.communicate()
            assert each.returncode == 0, errors


@pytest.fixture
def queue(redis_url: str) -> Iterator[RedisQueue]:
    with RedisQueue(redis_url) as queue:
        yield queue


def limited(queue: RedisQueue, *rules: FlowRule) -> None:
    """Inserts tasks of three keys, and sets what holds for them."""
    queue.insert_tasks([ThreadedLimitedNote(n=n % 3) for n in range(90)])
    kind = ThreadedLimitedNote.__fang_options__.kind
    store = Driven(queue.store())
    store.declare([Declaration(TYPE, {kind: rules_as_json(rules)})])  # as a pool with the class does
    store.close()


def test_no_limit_is_exceeded_by_pools_of_several_processes(
    queue: RedisQueue, redis_url: str, redis_client: redis.Redis
) -> None:
    limited(queue, Limit(4), Limit(2, by="n"))
    redis_client.set("left", 90)
    race(redis_url, CLAIMS)
    started = redis_client.lrange("started", 0, -1)
    assert len(started) == len(set(started)) == 90
    assert max(map(int, redis_client.lrange("running", 0, -1))) <= 4
    for lane in "012":
        assert max(map(int, redis_client.lrange(f"running:{lane}", 0, -1))) <= 2
    assert_exact(redis_client)


def test_no_rate_is_exceeded_by_pools_of_several_processes(
    queue: RedisQueue, redis_url: str, redis_client: redis.Redis
) -> None:
    limited(queue, Rate(200, burst=5))
    redis_client.set("left", 90)
    race(redis_url, CLAIMS)
    times = sorted(map(float, redis_client.lrange("times", 0, -1)))
    assert len(times) == 90
    for first, begin in enumerate(times):
        for last in range(first, len(times)):
            assert last - first + 1 <= 5 + 200 * (times[last] - begin) + 0.01


def test_of_equal_tasks_one_is_inserted(queue: RedisQueue, redis_url: str, redis_client: redis.Redis) -> None:
    race(redis_url, INSERTS)
    told = [line.split() for line in redis_client.lrange("inserted", 0, -1)]
    assert Counter(word for _, word, _ in told) == {"new": 100, "met": 100 * (PROCESSES - 1)}
    assert len({task_id for _, _, task_id in told}) == 100
    assert queue.count_tasks().count == 100
    assert_exact(redis_client)


def test_each_tick_is_made_once(queue: RedisQueue, redis_url: str, redis_client: redis.Redis) -> None:
    first = datetime.now(UTC) - timedelta(hours=1)
    redis_client.hset("{fang}:schedules", "race", '{"name":"race","last_tick":"2020-01-01T00:00:00+00:00"}')
    race(redis_url, TICKS, first.isoformat())
    ticked = list(map(int, redis_client.lrange("ticked", 0, -1)))
    assert len(ticked) == len(set(ticked))  # of ticks that other processes have overtaken, none is made
    assert queue.count_tasks().count == len(ticked) > 0
    assert_exact(redis_client)
