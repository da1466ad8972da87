-- A token bucket by its theoretical arrival time, in microseconds; the same arithmetic as
-- yggdrasil's `step`. All numbers stay below 2^53, so they are exact.
-- KEYS: bucket. ARGV: microseconds between two tokens, burst, cost[, time].
-- Answers: 0 allowed, 1 denied, 2 never; tokens left; microseconds to wait; microseconds until full.
local now
if ARGV[4] then
  now = tonumber(ARGV[4])
else
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local each, burst, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local room = each * burst
local full_at = tonumber(redis.call('GET', KEYS[1]) or '0')
local lacks = math.max(full_at - now, 0)
local function left(lacks)
  return math.floor(math.max(room - lacks, 0) / each)
end
if cost > burst then
  return {2, left(lacks), 0, lacks}
end
local after = lacks + each * cost
if after > room and cost > 0 then
  return {1, left(lacks), after - room, lacks}
end
if cost > 0 then
  redis.call('SET', KEYS[1], string.format('%.0f', now + after), 'PX', math.ceil(after / 1000))
end
return {0, left(after), 0, after}
