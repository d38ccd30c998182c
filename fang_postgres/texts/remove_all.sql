-- $1=p_from $2=p_until $3=p_limit $4=p_notify
WITH seen AS MATERIALIZED
(SELECT looked.id AS id, true AS wanted
FROM fang.fang_tasks AS looked
WHERE looked.id >= $1::UUID AND looked.id <= $2::UUID ORDER BY looked.id
 LIMIT 10000),
doomed AS MATERIALIZED
(SELECT seen.id AS id
FROM seen
WHERE seen.wanted ORDER BY seen.id
 LIMIT $3::INTEGER),
gone AS
(DELETE FROM fang.fang_tasks AS t WHERE t.id = ANY (array((SELECT doomed.id
FROM doomed))) RETURNING t.id, t.state, t.task_type, t.lane),
periods AS
(DELETE FROM fang.fang_uniques WHERE fang.fang_uniques.task_id = ANY (array((SELECT gone.id
FROM gone))))
 SELECT (SELECT count(*) AS count_1
FROM gone) AS count, CASE WHEN ((SELECT count(*) AS count_2
FROM doomed) = $3::INTEGER) THEN (SELECT doomed.id
FROM doomed ORDER BY doomed.id DESC
 LIMIT 1) ELSE (SELECT seen.id
FROM seen
WHERE (SELECT count(*) AS count_3
FROM seen) = 10000 ORDER BY seen.id DESC
 LIMIT 1) END AS reached, (SELECT count(CASE WHEN $4::BOOLEAN THEN pg_notify('fang_fang', concat(left(freed.task_type, 500), ',0,0')) END) AS count_4
FROM (SELECT DISTINCT gone.task_type AS task_type
FROM gone
WHERE gone.state = 'in_progress' AND gone.lane IS NOT NULL) AS freed) AS told
