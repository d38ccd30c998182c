"""Hides secrets in the payloads of tasks, on the page and in the command."""
