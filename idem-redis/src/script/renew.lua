-- Extends the owner's lease.
--
-- KEYS[1]  the record
-- ARGV[1]  the owner's token
-- ARGV[2]  the lease from now, in milliseconds
--
-- Returns what is left of the lease if above 0, else the number of an outcome in `reply.rs`; or a string: the beginning of a
-- record, which the caller reads.
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
-- More is left than was granted: the server's clock stepped back. The lease starts again.
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
