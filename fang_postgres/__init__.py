"""What both modes share about Postgres: the schema, the statements, what their rows mean. No I/O here."""
