-- $1=p_pool_id
DELETE FROM fang.fang_pools WHERE fang.fang_pools.id = $1::UUID
