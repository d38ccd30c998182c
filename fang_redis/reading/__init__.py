"""What is read of a server for people: lists, counts, history, explanations, the audit, and its health."""
