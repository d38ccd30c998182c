"""Which tasks a call for many is about, and how it goes through them."""
