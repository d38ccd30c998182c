-- Writes a field of a hash if it is as it was read: the hash, the field, the old text, the new one -> 1 if it was.
if call('HGET', P..ARGV[1], ARGV[2]) ~= ARGV[3] then return 0 end
admit(); call('HSET', P..ARGV[1], ARGV[2], ARGV[4]); return 1
