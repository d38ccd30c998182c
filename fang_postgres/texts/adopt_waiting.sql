-- $1=p_task_type $2=p_after_priority $3=p_after_at $4=p_after_id $5=p_limit $6=p_notify
WITH seen AS MATERIALIZED
(SELECT looked.priority AS priority, looked.scheduled_at AS scheduled_at, looked.id AS id, looked.lane IS NULL AS wanted
FROM fang.fang_tasks AS looked
WHERE looked.task_type = $1::VARCHAR AND looked.state IN ('new', 'retried') AND (looked.priority, looked.scheduled_at, looked.id) > (CAST($2::SMALLINT AS SMALLINT), $3::TIMESTAMP WITH TIME ZONE, $4::UUID) ORDER BY looked.priority, looked.scheduled_at, looked.id
 LIMIT (SELECT $5::INTEGER AS anon_1)),
adopted AS
(UPDATE fang.fang_tasks AS t SET lane='' WHERE t.id = ANY (array((SELECT seen.id
FROM seen
WHERE seen.wanted))) AND CAST(t.state AS TEXT) IN ('new', 'retried') AND t.lane IS NULL RETURNING t.id)
 SELECT counted.count, counted.told, last.priority, last.scheduled_at, last.id
FROM (SELECT (SELECT count(*) AS count_1
FROM adopted) AS count, (SELECT count(CASE WHEN $6::BOOLEAN THEN pg_notify('fang_fang', concat(left("some".task_type, 500), ',0,0')) END) AS count_2
FROM (SELECT $1::VARCHAR AS task_type
WHERE EXISTS (SELECT adopted.id
FROM adopted)) AS "some") AS told) AS counted LEFT OUTER JOIN (SELECT seen.priority AS priority, seen.scheduled_at AS scheduled_at, seen.id AS id
FROM seen
WHERE (SELECT count(*) AS count_3
FROM seen) = (SELECT $5::INTEGER AS anon_1) ORDER BY seen.priority DESC, seen.scheduled_at DESC, seen.id DESC
 LIMIT 1) AS last ON true
