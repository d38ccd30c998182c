"""Notifies waiting pools of what was committed, in this process and in other ones."""
