"""Turns tasks into payloads and back: refuses some values, and reads payloads of other releases."""
