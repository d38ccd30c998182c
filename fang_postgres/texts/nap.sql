-- $1=p_seconds
SELECT CAST(pg_sleep($1::FLOAT) AS TEXT) AS slept
