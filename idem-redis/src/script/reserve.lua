-- Reserves the key for an owner, if no other owner has it.
--
-- KEYS[1]  the record
-- ARGV[1]  a new record in flight as attempt 1, without its fence: state, token, fingerprint, lease, record_ttl, attempt
-- ARGV[2]  how long it is kept, lease + record_ttl, in milliseconds
-- ARGV[3]  if present, an owner whose lease is over keeps the key
--
-- Returns a number above 0: the fence of a first attempt; a number below 0: what is left of the lease of another owner's
-- first attempt in flight; a string: a record, which the caller reads; or {outcome, ..}, with the numbers of `reply.rs`.
--
-- The frequent cases come first and define no functions: making one costs as much as a command.
local key = KEYS[1]
local value = redis.call('GET', key)

if not value then
  local time = redis.call('TIME')
  local fence = time[1] * 1000000 + time[2]
  if fence > 9007199254740991 then
    return {6}
  end
  redis.call('SET', key, ARGV[1] .. struct.pack('>I7', fence), 'PX', ARGV[2])
  return fence
end

local letter = string.byte(value)
if letter == 67 then
  return value
end

local is_own = string.sub(value, 2, 17) == string.sub(ARGV[1], 2, 17)
local is_mismatch = string.sub(value, 18, 49) ~= string.sub(ARGV[1], 18, 49)
if letter == 73 and #value == 70 and not is_own and not is_mismatch then
  local lease, record_ttl, attempt = struct.unpack('>I5I5I4', value, 50)
  local left = redis.call('PTTL', key) - record_ttl
  if attempt == 1 and left > 0 and left <= lease then
    return -left
  end
end

--@record.lua

local function granted(attempt, previous)
  local time = redis.call('TIME')
  local fence = math.max(time[1] * 1000000 + time[2], previous + 1)
  if fence > 9007199254740991 then
    return {6}
  end
  redis.call('SET', key, string.sub(ARGV[1], 1, 59) .. struct.pack('>I4I7', attempt, fence), 'PX', ARGV[2])
  return {1, attempt, fence, (struct.unpack('>I5', ARGV[1], 50))}
end

if state == 'R' then
  if is_own then
    return {2}
  end
  return granted(struct.unpack('>I4I7', value, 18))
end
if is_mismatch then
  return {3}
end
if state == 'A' and is_own then
  return {2}
end

local lease, record_ttl, attempt, fence = struct.unpack('>I5I5I4I7', value, 50)
local left = redis.call('PTTL', key) - record_ttl
-- More is left than was granted: the server's clock stepped back. The lease starts again.
local stepped_back = state == 'I' and left > lease
if stepped_back then
  left = lease
end

if is_own then
  local asked = struct.unpack('>I5', ARGV[1], 50)
  if asked >= left then
    lease, left = asked, asked
  end
  value = string.sub(value, 1, 49) .. struct.pack('>I5', lease) .. string.sub(value, 55)
  redis.call('SET', key, value, 'PX', string.format('%.0f', left + record_ttl))
  return {1, attempt, fence, left}
end

if state == 'I' and left >= 0 then
  if stepped_back then
    redis.call('PEXPIRE', key, string.format('%.0f', left + record_ttl))
  end
  return {4, attempt, math.max(left, 1)}
end

if ARGV[3] then
  return {5, attempt}
end
return granted(math.min(attempt + 1, 4294967295), fence)
