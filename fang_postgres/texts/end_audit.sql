-- $1=p_result $2=p_id
UPDATE fang.fang_audit SET result=$1::VARCHAR WHERE fang.fang_audit.id = $2::BIGINT AND fang.fang_audit.result IS NULL RETURNING fang.fang_audit.id
