--
SELECT fang.fang_tasks.id
FROM fang.fang_tasks ORDER BY fang.fang_tasks.id DESC
 LIMIT 1
