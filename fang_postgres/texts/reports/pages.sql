--
SELECT pg_relation_size(to_regclass('fang.fang_tasks')) / CAST(CAST(current_setting('block_size') AS BIGINT) AS NUMERIC) AS pages
