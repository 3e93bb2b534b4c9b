-- Reads the record, and changes nothing.
--
-- KEYS[1]  the record
--
-- Returns the record, how many milliseconds it has left, and the instant at which they end; nil if there is no record.
local value = redis.call('GET', KEYS[1])
if not value then
  return false
end
return {value, redis.call('PTTL', KEYS[1]), redis.call('PEXPIRETIME', KEYS[1])}
