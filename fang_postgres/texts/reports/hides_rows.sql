--
SELECT row_security_active(to_regclass('fang.fang_tasks')) AS hides
