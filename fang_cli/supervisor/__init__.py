"""Supervises the processes of ``fang worker --processes N``: starts, watches, replaces and stops them.

The supervisor is one thread that runs none of the application's code, so nothing that the application does can stop it.
Each process is a fresh interpreter that runs ``fang worker`` as if it had been started by hand, and has one end of a
socket pair: it reports on it each second, and stops when the other end is closed.
"""
