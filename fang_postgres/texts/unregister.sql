-- $1=p_pool_id
WITH unheard AS
(DELETE FROM fang.fang_messages WHERE fang.fang_messages.pool_id = $1::UUID)
 DELETE FROM fang.fang_pools WHERE fang.fang_pools.id = $1::UUID
