"""Implements the verbs that write tasks, task types and schedules: functions of one transaction."""
