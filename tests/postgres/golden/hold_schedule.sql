-- $1=p_at $2=p_name $3=p_changed_at $4=p_last_tick
UPDATE fang.fang_schedules SET last_tick=greatest(fang.fang_schedules.last_tick, $1::TIMESTAMP WITH TIME ZONE) WHERE fang.fang_schedules.name = $2::VARCHAR AND fang.fang_schedules.changed_at IS NOT DISTINCT FROM $3::TIMESTAMP WITH TIME ZONE AND fang.fang_schedules.last_tick = $4::TIMESTAMP WITH TIME ZONE RETURNING fang.fang_schedules.name
