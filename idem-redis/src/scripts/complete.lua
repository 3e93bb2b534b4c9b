-- Stores the answer of the owner's run.
--
-- KEYS[1]  the record
-- ARGV[1]  the owner's token
-- ARGV[2]  how long the answer is kept, in milliseconds
-- ARGV[3]  the same, as the record shows it
-- ARGV[4]  the answer: its format, and its bytes
--
-- An outcome of `reply.rs`. A string is a record that cannot be read.
local key = KEYS[1]
local value = redis.call('GET', key)
if not value then
  return 4
end

--@record.lua

local state = state_of(value)
if not state then
  return string.sub(value, 1, 80)
end
if string.sub(value, 2, 17) ~= ARGV[1] or state == 'R' then
  return 4
end
if state == 'C' then
  -- The attempt and how long it is kept are numbers of 7 bits a byte; the answer stands after them.
  local answer = string.match(value, '^[\128-\255]*[%z\1-\127][\128-\255]*[%z\1-\127]()', 57)
  return answer and string.sub(value, answer) == ARGV[4] and 2 or 3
end

local attempt = string.sub(value, 63, 63)
if string.sub(value, 60, 62) ~= '\0\0\0' or string.byte(attempt) > 127 then
  local number = struct.unpack('>I4', value, 60)
  attempt = ''
  while number >= 128 do
    attempt = attempt .. string.char(number % 128 + 128)
    number = math.floor(number / 128)
  end
  attempt = attempt .. string.char(number)
end
local head = 'C' .. string.sub(value, 2, 49) .. string.sub(value, 64, 70)
redis.call('SET', key, head .. attempt .. ARGV[3] .. ARGV[4], 'PX', ARGV[2])
return 1
