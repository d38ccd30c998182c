--
SELECT fang.fang_alembic_version.version_num
FROM fang.fang_alembic_version
