-- Token buckets, all or nothing; each as in consume.lua.
-- KEYS: a bucket for each request. ARGV: for each microseconds between two tokens, burst, cost.
-- Answers: for each what consume.lua does, up to the first that is not allowed, after which nothing
-- was taken.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local answers, lacks_of, order = {}, {}, {}
for index, key in ipairs(KEYS) do
  local at = 3 * index
  local each, burst, cost = tonumber(ARGV[at - 2]), tonumber(ARGV[at - 1]), tonumber(ARGV[at])
  local room = each * burst
  local lacks = lacks_of[key]
  if not lacks then
    lacks = math.max(tonumber(redis.call('GET', key) or '0') - now, 0)
  end
  local function left(lacks)
    return math.floor(math.max(room - lacks, 0) / each)
  end
  if cost > burst then
    answers[index] = {2, left(lacks), 0, lacks}
    return answers
  end
  local after = lacks + each * cost
  if after > room and cost > 0 then
    answers[index] = {1, left(lacks), after - room, lacks}
    return answers
  end
  if cost > 0 then
    order[#order + 1] = key
    lacks_of[key] = after
  end
  answers[index] = {0, left(after), 0, after}
end
for _, key in ipairs(order) do
  local after = lacks_of[key]
  redis.call('SET', key, string.format('%.0f', now + after), 'PX', math.ceil(after / 1000))
end
return answers
