"""The same for asyncio, over one thread."""
