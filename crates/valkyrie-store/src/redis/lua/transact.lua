-- Checks and changes, all or nothing.
-- KEYS: that of each step. ARGV: for each step a word, what it needs, and for SET 'KEEPTTL',
-- milliseconds or ''.
-- Answers: 1 and the value of each counter that was added to, or 0 and the place of the check that did
-- not hold, from 0 on.
local function words(index)
  return KEYS[index], ARGV[3 * index - 2], ARGV[3 * index - 1], ARGV[3 * index]
end
for index = 1, #KEYS do
  local key, word, argument = words(index)
  local holds = true
  if word == 'ABSENT' then
    holds = redis.call('EXISTS', key) == 0
  elseif word == 'PRESENT' then
    holds = redis.call('EXISTS', key) == 1
  elseif word == 'EQUALS' then
    holds = redis.call('GET', key) == argument
  end
  if not holds then
    return {0, index - 1}
  end
end
-- Only these can fail. What was done by then is undone.
local answers, undo = {1}, {}
for index = 1, #KEYS do
  local key, word, argument = words(index)
  if word == 'INCRBY' then
    local before = redis.pcall('GET', key)
    local after = redis.pcall('INCRBY', key, argument)
    if type(after) == 'table' then
      for _, change in ipairs(undo) do
        if change[2] then
          redis.call('SET', change[1], change[2], 'KEEPTTL')
        else
          redis.call('DEL', change[1])
        end
      end
      return after
    end
    undo[#undo + 1] = {key, before}
    -- Numbers of this language are exact up to 2^53 only.
    answers[#answers + 1] = redis.call('GET', key)
  end
end
for index = 1, #KEYS do
  local key, word, argument, lifetime = words(index)
  if word == 'DEL' then
    redis.call('DEL', key)
  elseif word == 'SET' and lifetime == '' then
    redis.call('SET', key, argument)
  elseif word == 'SET' and lifetime == 'KEEPTTL' then
    redis.call('SET', key, argument, 'KEEPTTL')
  elseif word == 'SET' then
    redis.call('SET', key, argument, 'PX', lifetime)
  end
end
return answers
