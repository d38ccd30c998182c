"""Builds the statements, a module for each subject; ``fang_postgres.statements`` puts them together."""
