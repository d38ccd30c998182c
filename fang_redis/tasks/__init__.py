"""Implements the verbs that write tasks, task types and schedules: generators of operations."""
