"""Contains the parts of Postgres that a pool uses: its store, heart and listener."""
