-- $1=p_waiting $2=p_pool_id
UPDATE fang.fang_pools SET waiting=$1::BOOLEAN WHERE fang.fang_pools.id = $2::UUID
