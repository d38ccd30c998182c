"""How a task becomes a payload and is read again: what is refused, and what changes between releases."""
