-- Adds to a counter within bounds. KEYS: key.
-- ARGV: what is added, least, greatest, '1' to go as far as allowed, milliseconds or ''.
-- Answers: value, what was added.
local text = redis.call('GET', KEYS[1]) or '0'
local value = tonumber(text)
if not value or not string.find(text, '^-?%d+$') or math.abs(value) > 9007199254740992 then
  return redis.error_reply('ERR value is not an integer or out of range')
end
local by, least, greatest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local sum = value + by
if sum < least or sum > greatest then
  if ARGV[4] ~= '1' then
    return {value, 0}
  elseif by >= 0 and value < greatest then
    sum = greatest
  elseif by < 0 and value > least then
    sum = least
  else
    return {value, 0}
  end
end
redis.call('SET', KEYS[1], string.format('%.0f', sum), 'KEEPTTL')
if ARGV[5] ~= '' and redis.call('PTTL', KEYS[1]) == -1 then
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
end
return {sum, sum - value}
