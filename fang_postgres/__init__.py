"""Holds what both modes share about Postgres: the schema, the statements, the meaning of their rows. No I/O here."""
