"""A real Cluster for tests: three nodes, a replica if one is wanted, and the hand-over of a slot."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from tests.redisserver import ALWAYS, RedisServer, of_a_cluster, wait_for

SLOTS: Final = 16_384
_SETTINGS: Final = {
    **ALWAYS,
    "cluster-node-timeout": "1000",
    "cluster-require-full-coverage": "no",  # a node serves its slots while another one is gone
}


class Cluster:
    """Its nodes, and where the keys of the queue ``fang`` are."""

    def __init__(self, nodes: list[RedisServer], stack: ExitStack) -> None:
        self.nodes = nodes
        self._stack = stack
        self.slot = int(ask(nodes[0], "KEYSLOT", "{fang}:"))

    def owner(self) -> RedisServer:
        """The node that has the queue's slot, as it says itself."""
        return next(node for node in self.nodes if self.owns(node))

    def other(self) -> RedisServer:
        """A node that has not."""
        return next(node for node in self.nodes if not self.owns(node))

    def owns(self, node: RedisServer) -> bool:
        """Returns whether it has the slot."""
        mine = ask(node, "MYID")
        return any(
            low <= self.slot <= high and owner == mine for low, high, (_, _, owner, *_), *_ in ask(node, "SLOTS")
        )

    def begin_hand_over(self) -> tuple[RedisServer, RedisServer]:
        """Begins to hand the slot over, and returns from which node to which."""
        source, target = self.owner(), self.other()
        ask(target, "SETSLOT", self.slot, "IMPORTING", ask(source, "MYID"))
        ask(source, "SETSLOT", self.slot, "MIGRATING", ask(target, "MYID"))
        return source, target

    def move_keys(self, source: RedisServer, target: RedisServer, most: int = SLOTS) -> None:
        """Moves keys of the slot, all unless ``most`` is less."""
        with source.client() as client:
            while keys := ask(source, "GETKEYSINSLOT", self.slot, min(most, 100)):
                client.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *keys)
                if (most := most - len(keys)) <= 0:
                    break

    def end_hand_over(self, source: RedisServer, target: RedisServer) -> None:
        """Moves the other keys; from then on the target has the slot, and the source says so."""
        self.move_keys(source, target)
        for node in (target, source):
            ask(node, "SETSLOT", self.slot, "NODE", ask(target, "MYID"))

    def add_replica(self) -> RedisServer:
        """Starts a replica of the slot's owner, and returns once it has the data."""
        owner, replica = self.owner(), self._stack.enter_context(_node())
        of = ask(owner, "MYID")
        ask(replica, "MEET", *_address(owner))
        wait_for(lambda: of in str(ask(replica, "NODES")), "the replica does not meet its primary")
        ask(replica, "REPLICATE", of)
        with replica.client() as client:
            wait_for(lambda: client.info("replication")["master_link_status"] == "up", "the replica has no data")
        mine = ask(replica, "MYID")
        for node in self.nodes:  # those that elect it have to know it
            wait_for(lambda node=node: _is_replica(mine, of, ask(node, "NODES")), "a node does not know the replica")
        self.nodes.append(replica)
        return replica


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Three nodes, each with a third of the slots."""
    with ExitStack() as stack:
        nodes = [stack.enter_context(_node()) for _ in range(3)]
        first = nodes[0]
        for number, node in enumerate(nodes):
            ask(node, "ADDSLOTS", *range(number * SLOTS // 3, (number + 1) * SLOTS // 3))
            ask(node, "SET-CONFIG-EPOCH", number + 1)
            if number:
                ask(node, "MEET", *_address(first))
        for node in nodes:
            wait_for(lambda node=node: _is_formed(node), "no cluster came about")
        yield Cluster(nodes, stack)


def ask(node: RedisServer, *command: Any) -> Any:
    """The reply to a subcommand of ``CLUSTER``."""
    with node.client() as client:
        return client.execute_command("CLUSTER", *command)


def _node() -> RedisServer:
    return RedisServer({**_SETTINGS, **of_a_cluster()}, tcp=True)


def _address(node: RedisServer) -> tuple[Any, ...]:
    at_bus = node.settings.get("cluster-port")
    return ("127.0.0.1", node.port, *([at_bus] if at_bus else []))


def _is_formed(node: RedisServer) -> bool:
    text = str(ask(node, "INFO"))
    return ("cluster_state:ok" in text or "'ok'" in text) and len(ask(node, "SLOTS")) == 3


def _is_replica(node_id: str, of: str, known: Any) -> bool:
    if isinstance(known, dict):  # as redis-py reads it
        return any(each["node_id"] == node_id and each["master_id"] == of for each in known.values())
    return any(line.startswith(node_id) and of in line for line in str(known).splitlines())
