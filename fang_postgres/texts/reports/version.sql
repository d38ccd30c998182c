--
SELECT fang.fang_alembic_version.version_num, obj_description(CAST('fang.fang_alembic_version' AS REGCLASS), 'pg_class') AS comment
FROM fang.fang_alembic_version
