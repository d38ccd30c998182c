-- $1=p_kinds $2=p_pool_id
UPDATE fang.fang_pools SET kinds=$1::TEXT[] WHERE fang.fang_pools.id = $2::UUID AND fang.fang_pools.beats > -1 RETURNING fang.fang_pools.id
