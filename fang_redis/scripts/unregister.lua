-- Forgets a pool, and what it told.
expect_pool(ARGV[1]); forget_pool(ARGV[1]); return 1
