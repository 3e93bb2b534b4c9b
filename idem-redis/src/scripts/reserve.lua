-- Takes the key for an owner, if nobody has it.
--
-- KEYS[1]  the record
-- ARGV[1]  a new record in flight as attempt 1, without its fence: state, token, fingerprint, lease, record_ttl, attempt
-- ARGV[2]  how long it is remembered, lease + record_ttl, in milliseconds
-- ARGV[3]  '1' to take over from an owner whose lease is over, '0' to refuse that
--
-- A number is the fence of a first attempt; a string is a record that the caller reads by itself; everything else is
-- {outcome, ..}, where the outcome is one of `reply.rs`.
local key = KEYS[1]
local value = redis.call('GET', key)

-- The most frequent first: a completed record is told as it is, and a free key is taken.
if value and string.byte(value) == 67 then
  return value
end

local FENCE_MAX = 9007199254740991
local function next_fence(previous)
  local time = redis.call('TIME')
  local fence = time[1] * 1000000 + time[2]
  return fence > previous and fence or previous + 1
end

if not value then
  local fence = next_fence(0)
  if fence > FENCE_MAX then
    return {6}
  end
  redis.call('SET', key, ARGV[1] .. struct.pack('>I7', fence), 'PX', ARGV[2])
  return fence
end

--@record.lua

local function granted(attempt, previous)
  local fence = next_fence(previous)
  if fence > FENCE_MAX then
    return {6}
  end
  redis.call('SET', key, string.sub(ARGV[1], 1, 59) .. struct.pack('>I4I7', attempt, fence), 'PX', ARGV[2])
  return {1, attempt, fence, (struct.unpack('>I5', ARGV[1], 50))}
end

local state = state_of(value)
if not state then
  return string.sub(value, 1, 80)
end

local is_own = string.sub(value, 2, 17) == string.sub(ARGV[1], 2, 17)
if state == 'R' then
  if is_own then
    return {2}
  end
  return granted(struct.unpack('>I4I7', value, 18))
end

if string.sub(value, 18, 49) ~= string.sub(ARGV[1], 18, 49) then
  return {3}
end
if state == 'A' and is_own then
  return {2}
end

local lease, record_ttl, attempt, fence = struct.unpack('>I5I5I4I7', value, 50)
local left = redis.call('PTTL', key) - record_ttl
-- More is left than was ever given: the server's clock stepped back. The lease begins anew.
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
  return {4, attempt, left > 0 and left or 1}
end

if ARGV[3] ~= '1' then
  return {5, attempt}
end
return granted(attempt < 4294967295 and attempt + 1 or attempt, fence)
