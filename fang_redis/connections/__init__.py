"""The connections to a server, which repeat nothing, and how operations go over them."""
