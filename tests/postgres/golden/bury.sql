-- $1=p_ids
DELETE FROM fang.fang_pools WHERE fang.fang_pools.id = ANY (array((SELECT unnest($1::UUID[]) AS unnest_1)))
