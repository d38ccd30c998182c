-- $1=p_from
SELECT EXISTS (SELECT 1
FROM fang.fang_tasks
WHERE fang.fang_tasks.id >= $1::UUID) AS found
