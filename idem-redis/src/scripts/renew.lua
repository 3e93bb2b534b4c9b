-- Extends the owner's lease.
--
-- KEYS[1]  the record
-- ARGV[1]  the owner's token
-- ARGV[2]  the lease from now, in milliseconds
--
-- Above 0, what is left of the lease; otherwise an outcome of `reply.rs`. A string is a record that the caller
-- reads by itself.
local key = KEYS[1]
local value = redis.call('GET', key)
if not value then
  return -2
end

--@record.lua
if string.sub(value, 2, 17) ~= ARGV[1] then
  return -2
end
if state ~= 'I' then
  return -2
end

local lease, record_ttl = struct.unpack('>I5I5', value, 50)
local left = redis.call('PTTL', key) - record_ttl
-- More is left than was ever given: the server's clock stepped back. The lease begins anew.
if left > lease then
  left = lease
end
local asked = tonumber(ARGV[2])
if asked >= left then
  lease, left = asked, asked
end
value = string.sub(value, 1, 49) .. struct.pack('>I5', lease) .. string.sub(value, 55)
redis.call('SET', key, value, 'PX', string.format('%.0f', left + record_ttl))
return left
