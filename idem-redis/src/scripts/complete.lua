-- Stores the answer of the owner's run.
--
-- KEYS[1]  the record
-- ARGV[1]  the owner's token
-- ARGV[2]  how long the answer is kept, in milliseconds
-- ARGV[3]  the same, as the record shows it
-- ARGV[4]  the answer: its format, and its bytes
--
-- An outcome of `reply.rs`. A string is a record that the caller reads by itself; if it is completed and has this
-- very answer, it is {the same}.
--
-- The frequent case stands first, and defines no functions: making one costs as much as a command.
local key = KEYS[1]
local value = redis.call('GET', key)
if not value then
  return 4
end
local is_own = string.sub(value, 2, 17) == ARGV[1]

local letter = string.byte(value)
if is_own and ((letter == 73 and #value == 70) or (letter == 65 and #value == 76)) then
  local attempt = string.sub(value, 63, 63)
  if string.byte(attempt) > 127 or string.sub(value, 60, 62) ~= '\0\0\0' then
    -- Seven bits a byte, the lowest first.
    local number = struct.unpack('>I4', value, 60)
    attempt = ''
    while number >= 128 do
      attempt = attempt .. string.char(number % 128 + 128)
      number = math.floor(number / 128)
    end
    attempt = attempt .. string.char(number)
  end
  value = 'C' .. string.sub(value, 2, 49) .. string.sub(value, 64, 70) .. attempt .. ARGV[3] .. ARGV[4]
  redis.call('SET', key, value, 'PX', ARGV[2])
  return 1
end

if letter == 67 and is_own then
  -- Its attempt and how long it is kept are two numbers of seven bits a byte; the answer stands after them.
  local answer = string.match(value, '^[\128-\255]*[%z\1-\127][\128-\255]*[%z\1-\127]()', 57)
  if answer and string.sub(value, answer) == ARGV[4] then
    return {string.sub(value, 1, 82)}
  end
end

--@record.lua
return 4
