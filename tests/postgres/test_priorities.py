"""Which of the keys with limits come first, if their tasks have several priorities."""

from tests.modes import RAN, Database, Harness
from tests.patience import PATIENT
from tests.postgres.test_lanes import Flow

FUTURE, LOW, HIGH = 0, 1, 2
"""The numbers of the tasks of the test."""


def test_a_key_of_a_high_priority_is_served_though_more_keys_than_a_claim_looks_at_come_before_it(
    harness: Harness, url: str, database: Database
) -> None:
    """Tasks of a lower priority, all of one key, fill the claims, which so begin at the same place each time."""
    queue = harness.queue(url)
    Flow(database).settings(max_running_per_key=50)
    for n, count, key, columns in (
        (FUTURE, 1_500, "'m' || n", "0, now() + interval '1 hour'"),
        (LOW, 400, "'a'", "1, now()"),
        (HIGH, 1, "'z'", "0, now()"),
    ):
        database.execute(
            f"""INSERT INTO fang.fang_tasks (id, metadata, task_type, lane, priority, scheduled_at)
            SELECT gen_random_uuid(), jsonb_build_object('type', %s::text, 'n', %s::int), 'common', {key}, {columns}
            FROM generate_series(1, {count}) n""",
            harness.note.__fang_options__.kind,
            n,
        )
    assert harness.call(harness.pool(queue, number_of_workers=4).drain) == 401
    order = [RAN.get(timeout=PATIENT) for _ in range(401)]
    assert order.index(HIGH) < 100
