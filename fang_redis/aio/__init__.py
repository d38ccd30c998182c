"""The asyncio side of ``fang_redis``: what waits, and nothing else."""
