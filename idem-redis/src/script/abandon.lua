-- Lets the next caller take over at once: it is unknown what the owner's run has done.
--
-- KEYS[1]  the record
-- ARGV[1]  the owner's token
--
-- Returns the number of an outcome in `reply.rs`, or a string: the beginning of a record, which the caller reads.
local key = KEYS[1]
local value = redis.call('GET', key)
if not value then
  return 3
end

--@record.lua
if string.sub(value, 2, 17) ~= ARGV[1] or state == 'R' then
  return 3
end
if state == 'A' then
  return 1
end

-- A key that an operator made persistent has no expiry time. Its lease is over.
local record_ttl = struct.unpack('>I5', value, 55)
local lease_until = math.max(redis.call('PEXPIRETIME', key) - record_ttl, 0)
value = 'A' .. string.sub(value, 2) .. struct.pack('>I6', lease_until)
redis.call('SET', key, value, 'PX', string.format('%.0f', record_ttl))
return 1
