-- Keeps a lease, or gives it back where no time is named. KEYS: lease. ARGV: fencing number,
-- milliseconds or ''. Answers: 1 where it was still held.
local held = redis.call('GET', KEYS[1])
if not held or string.sub(held, 1, string.len(ARGV[1]) + 1) ~= ARGV[1] .. ':' then
  return 0
end
if ARGV[2] == '' then
  return redis.call('DEL', KEYS[1])
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
