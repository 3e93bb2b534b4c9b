-- Lets the next caller in at once: nobody knows what the owner's run has done.
--
-- KEYS[1]  the record
-- ARGV[1]  the owner's token
--
-- An outcome of `reply.rs`. A string is a record that the caller reads by itself.
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

-- A key that was made persistent has no time of expiry, and its lease was over before.
local record_ttl = struct.unpack('>I5', value, 55)
local lease_until = math.max(redis.call('PEXPIRETIME', key) - record_ttl, 0)
value = 'A' .. string.sub(value, 2) .. struct.pack('>I6', lease_until)
redis.call('SET', key, value, 'PX', string.format('%.0f', record_ttl))
return 1
