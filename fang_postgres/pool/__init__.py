"""What a pool uses of Postgres: its store, heart and listener."""
