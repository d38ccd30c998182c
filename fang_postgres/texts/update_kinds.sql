-- $1=p_kinds $2=p_isolated_kinds $3=p_pool_id
UPDATE fang.fang_pools SET kinds=$1::TEXT[], isolated_kinds=$2::TEXT[] WHERE fang.fang_pools.id = $3::UUID AND fang.fang_pools.beats > -1 RETURNING fang.fang_pools.id
