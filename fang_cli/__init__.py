"""The `fang` command, and the demo."""
