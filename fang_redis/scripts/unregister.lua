-- Forgets a pool, and what it told.
forget_pool(ARGV[1]); return 1
