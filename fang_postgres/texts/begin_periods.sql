-- $1=p_hashes $2=p_ids $3=p_within
WITH moment AS
(SELECT clock_timestamp() AS now),
locked AS MATERIALIZED
(SELECT fang.fang_uniques.hash AS hash
FROM fang.fang_uniques
WHERE fang.fang_uniques.hash = ANY (array((SELECT unnest($1::TEXT[]) AS unnest_1))) AND fang.fang_uniques.until <= (SELECT moment.now
FROM moment) ORDER BY fang.fang_uniques.hash FOR UPDATE),
ended AS
(DELETE FROM fang.fang_uniques WHERE fang.fang_uniques.hash = ANY (array((SELECT locked.hash
FROM locked))) AND fang.fang_uniques.until <= (SELECT moment.now
FROM moment) RETURNING fang.fang_uniques.hash)
 INSERT INTO fang.fang_uniques (hash, task_id, inserted_at, until) SELECT asked.hash, asked.task_id, moment.now, coalesce(moment.now + asked.within, CAST('infinity' AS TIMESTAMP WITH TIME ZONE)) AS coalesce_1
FROM unnest($1::TEXT[], $2::UUID[], $3::INTERVAL[]) AS asked(hash, task_id, within) JOIN moment ON (SELECT count(*) AS count_1
FROM ended) >= 0 ON CONFLICT DO NOTHING RETURNING fang.fang_uniques.task_id
