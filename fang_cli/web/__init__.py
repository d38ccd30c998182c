"""The command ``fang web``: the page, on a server of its own."""
