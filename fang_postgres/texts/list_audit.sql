-- $1=p_before $2=p_limit
SELECT fang.fang_audit.id, CASE WHEN (fang.fang_audit.at IS NOT NULL) THEN least(greatest(fang.fang_audit.at, '0001-01-03 00:00:00+00'::timestamptz), '9999-12-29 00:00:00+00'::timestamptz) END AS at, fang.fang_audit.who, fang.fang_audit.action, fang.fang_audit.target, CAST(fang.fang_audit.details AS TEXT) AS details, fang.fang_audit.result
FROM fang.fang_audit
WHERE $1::BIGINT IS NULL OR fang.fang_audit.id < $1::BIGINT ORDER BY fang.fang_audit.id DESC
 LIMIT (SELECT $2::INTEGER AS anon_1)
