--
SELECT fang.fang_tasks.kind, count(*) AS count
FROM fang.fang_tasks GROUP BY fang.fang_tasks.kind ORDER BY fang.fang_tasks.kind
