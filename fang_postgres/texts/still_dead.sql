-- $1=p_ids $2=p_beats
SELECT p.id, p.stopping, p.max_crashes, p.isolated_kinds
FROM fang.fang_pools AS p
WHERE p.id = ANY (array((SELECT unnest($1::UUID[]) AS unnest_1))) AND ($1::UUID[])[width_bucket(p.id, $1::UUID[])] = p.id AND ($2::BIGINT[])[width_bucket(p.id, $1::UUID[])] = p.beats FOR UPDATE OF p SKIP LOCKED
