-- $1=p_names
UPDATE fang.fang_schedules SET declared=NULL WHERE fang.fang_schedules.name = ANY (array((SELECT unnest($1::TEXT[]) AS unnest_1))) AND fang.fang_schedules.declared IS NOT NULL
