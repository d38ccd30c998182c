-- $1=p_limit
DELETE FROM fang.fang_uniques WHERE fang.fang_uniques.hash = ANY (array((SELECT "old".hash
FROM fang.fang_uniques AS "old"
WHERE "old".until <= now() ORDER BY "old".until
 LIMIT (SELECT $1::INTEGER AS anon_1) FOR UPDATE SKIP LOCKED))) AND fang.fang_uniques.until <= now() RETURNING fang.fang_uniques.hash
