-- Frees the key: the owner says that nothing happened. A tombstone stays.
--
-- KEYS[1]  the record
-- ARGV[1]  the owner's token
-- ARGV[2]  the shortest life of a tombstone, in milliseconds
--
-- Returns the number of an outcome in `reply.rs`, or a string: the beginning of a record, which the caller reads.
local key = KEYS[1]
local value = redis.call('GET', key)

if not value then
  local time = redis.call('TIME')
  local fence = time[1] * 1000000 + time[2]
  if fence > 9007199254740991 then
    return 5
  end
  redis.call('SET', key, 'R' .. ARGV[1] .. struct.pack('>I4I7', 1, fence), 'PX', ARGV[2])
  return 2
end

--@record.lua
if string.sub(value, 2, 17) ~= ARGV[1] then
  return 4
end
if state == 'R' then
  return 2
end

local lease, record_ttl, attempt = struct.unpack('>I5I5I4', value, 50)
local kept = math.max(lease, tonumber(ARGV[2]))
-- The attempt number of a takeover outlives the release: an earlier run may have had its effect, and the next run must see
-- that for as long as the record would have been kept.
if attempt > 1 then
  kept = math.max(kept, record_ttl)
end
local tombstone = 'R' .. ARGV[1] .. string.sub(value, 60, 70)
redis.call('SET', key, tombstone, 'PX', string.format('%.0f', kept))
return 1
