-- $1=p_hashes
DELETE FROM fang.fang_uniques WHERE fang.fang_uniques.hash = ANY (array((SELECT unnest($1::TEXT[]) AS unnest_1))) AND fang.fang_uniques.until <= clock_timestamp()
