-- $1=p_before $2=p_limit
SELECT fang.fang_audit.id, fang.fang_audit.at, fang.fang_audit.who, fang.fang_audit.action, fang.fang_audit.target, CAST(fang.fang_audit.details AS TEXT) AS details, fang.fang_audit.result
FROM fang.fang_audit
WHERE $1::BIGINT IS NULL OR fang.fang_audit.id < $1::BIGINT ORDER BY fang.fang_audit.id DESC
 LIMIT (SELECT $2::INTEGER AS anon_1)
