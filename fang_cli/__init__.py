"""The `fang` command, the embedded Postgres, and the demo."""
