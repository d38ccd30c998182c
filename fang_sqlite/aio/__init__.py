"""Does the same for asyncio, over one thread."""
