-- What every script does with a record that is there: which state it is in. A completed record is shown to the caller, who
-- reads it and says whose it is, and so is a value that this release does not read: nothing that cannot be read is a record.
-- A completed one need not be whole for that: its three numbers end before the 82nd byte, and after them one byte is as
-- good as all. `frame.rs` has the layouts, whose offsets stand in all scripts (Lua counts from 1).
local state = string.sub(value, 1, 1)
if not ((state == 'I' and #value == 70) or (state == 'A' and #value == 76) or (state == 'R' and #value == 28)) then
  return string.sub(value, 1, 82)
end
