"""The memory backend: for tests, and for programs that need no durability. It is the smallest example of a backend.

``base`` has what both queues do, ``store`` what pools see, and ``state`` all rows behind one lock. How a row changes,
and the other rules, are in the room above, where other backends find them.
"""
