"""Has the asyncio side of ``fang_redis``: only the code that waits."""
