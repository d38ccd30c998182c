"""Manages the connections to a server, which repeat nothing, and sends operations over them."""
