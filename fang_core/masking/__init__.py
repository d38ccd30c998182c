"""Hides what is secret in the payloads of tasks from those who look at them, in the page and in the command."""
