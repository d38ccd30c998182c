"""Puts the rooms together: all verbs of a queue, and all verbs of a pool, by name."""

from fang_redis.connections.sending import Sending
from fang_redis.layout import Keys
from fang_redis.pools.pools import Pools
from fang_redis.reading.audit import Audit
from fang_redis.reading.explaining import Explaining
from fang_redis.reading.history import History
from fang_redis.reading.listing import Listing
from fang_redis.reading.walking import Walking
from fang_redis.tasks.bulk import Bulk
from fang_redis.tasks.claiming import Claiming
from fang_redis.tasks.flow import Flow
from fang_redis.tasks.inserting import Inserting
from fang_redis.tasks.moving import Moving
from fang_redis.tasks.schedules import ScheduleRoom
from fang_redis.tasks.tasks import Tasks


class RedisVerbs:
    """What a queue asks: see ``fang_core.backends.verbs.Verbs``. Each verb is a generator of operations.

    Inserts wait until ``replicas`` replicas have confirmed them.
    """

    def __init__(self, keys: Keys, replicas: int) -> None:
        sending = Sending(keys)
        walking = Walking(sending)
        inserting, claiming = Inserting(sending, replicas), Claiming(sending)
        flow, pools = Flow(sending), Pools(sending)
        schedules, listing, bulk = ScheduleRoom(sending, inserting), Listing(sending, walking), Bulk(sending, walking)
        tasks, history = Tasks(sending, claiming, flow), History(sending)
        self.schedules, self.audit, self.moving = schedules, Audit(sending), Moving(sending)

        self.insert, self.insert_many = inserting.insert, inserting.insert_many
        self.tick_by_hand = schedules.tick_by_hand

        self.find, self.fetch, self.complete_run = tasks.find, tasks.fetch, tasks.complete_run
        self.change, self.edit, self.cancel = tasks.change, tasks.edit, bulk.cancel
        self.remove, self.remove_twin = tasks.remove, tasks.remove_twin

        self.cancel_batch, self.retry_batch = bulk.cancel_batch, bulk.retry_batch
        self.remove_batch, self.remove_scheduled_batch = bulk.remove_batch, bulk.remove_scheduled_batch

        self.list_pools, self.send = pools.list_pools, pools.send
        self.list_types, self.set_limits = flow.list_types, flow.set_limits
        self.pause_type, self.resume_type = flow.pause_type, flow.resume_type

        self.list_tasks, self.count_tasks = listing.list_tasks, listing.count_tasks
        self.explain, self.stats, self.heat_map = Explaining(sending).explain, history.stats, history.heat_map
        self.tasks_of_kinds, self.count_by_kind = listing.tasks_of_kinds, listing.count_by_kind


class PoolVerbs:
    """What a pool asks: see ``fang_core.backends.store``."""

    def __init__(self, keys: Keys) -> None:
        sending = Sending(keys)
        claiming, flow, pools = Claiming(sending), Flow(sending), Pools(sending)
        schedules, history = ScheduleRoom(sending, Inserting(sending)), History(sending)

        self.claim, self.complete = claiming.claim, claiming.complete
        self.claim_lanes, self.reconcile = flow.claim_lanes, claiming.reconcile
        self.prune, self.has_taker = claiming.prune, claiming.has_taker
        self.waiting_types, self.next_due = claiming.waiting_types, claiming.next_due
        self.unknown_kinds, self.unserved_types = claiming.unknown_kinds, claiming.unserved_types

        self.register, self.unregister = pools.register, pools.unregister
        self.update_kinds, self.set_waiting = pools.update_kinds, pools.set_waiting
        self.tell_live = pools.tell_live

        self.declare, self.tell_types = flow.declare, flow.tell_types
        self.declare_schedules, self.read_schedules = schedules.declare_schedules, schedules.read_schedules
        self.tick, self.tick_stored = schedules.tick, schedules.tick_stored
        self.clock, self.flush_stats, self.fold_stats = claiming.clock, history.flush_stats, history.fold_stats
