"""Database URLs, and what they name: parameters, services, addresses, passwords."""
