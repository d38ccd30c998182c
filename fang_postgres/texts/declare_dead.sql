-- $1=p_pool_id
UPDATE fang.fang_pools SET beats=-1 WHERE fang.fang_pools.id = $1::UUID AND fang.fang_pools.beats > -1
