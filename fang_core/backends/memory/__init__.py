"""The memory backend: for tests, and for programs that need no durability. It is the smallest example of a backend.

``base`` has what both queues do, ``store`` what pools see, ``state`` all rows behind one lock, and ``rows``
how a row changes.
"""
