-- $1=p_who $2=p_action $3=p_target $4=p_details
INSERT INTO fang.fang_audit (who, action, target, details) VALUES ($1::VARCHAR, $2::VARCHAR, $3::VARCHAR, CAST($4::VARCHAR AS JSONB)) RETURNING fang.fang_audit.id
