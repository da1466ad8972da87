-- Sets a key where it holds what is expected.
-- KEYS: key. ARGV: expected, value[, 'PX', milliseconds | 'KEEPTTL'].
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], unpack(ARGV, 2))
return 1
