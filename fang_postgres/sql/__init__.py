"""The statements, by what they are about; ``fang_postgres.statements`` puts them together."""
