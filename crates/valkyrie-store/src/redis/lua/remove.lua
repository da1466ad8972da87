-- Removes a key where it holds what is expected. KEYS: key. ARGV: expected.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
