-- Asks for a lease. KEYS: lease, its fencing number. ARGV: holder, milliseconds.
-- Answers: 1 and the fencing number, or 0 and for how many milliseconds it is taken at most.
local held = redis.call('GET', KEYS[1])
if held then
  local colon = string.find(held, ':', 1, true)
  if string.sub(held, colon + 1) == ARGV[1] then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    return {1, tonumber(string.sub(held, 1, colon - 1))}
  end
  return {0, redis.call('PTTL', KEYS[1])}
end
-- Never below the microseconds since 1970, so that it also grows when another store gave the one before.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local fence = redis.call('INCR', KEYS[2])
if fence < now then
  fence = now
  redis.call('SET', KEYS[2], string.format('%.0f', fence))
end
redis.call('SET', KEYS[1], string.format('%.0f', fence) .. ':' .. ARGV[1], 'PX', ARGV[2])
return {1, fence}
