-- What every script does with a record that exists: it reads the state. A completed record goes back to the caller, who
-- reads it and finds out whose it is. So does a value that this release does not read: what cannot be read is not a record.
-- The first 82 bytes are enough: the three numbers of a completed record end before them, and of the answer one byte is as
-- good as all. `record/mod.rs` has the layouts; their offsets are in all scripts (Lua counts from 1).
local state = string.sub(value, 1, 1)
if not ((state == 'I' and #value == 70) or (state == 'A' and #value == 76) or (state == 'R' and #value == 28)) then
  return string.sub(value, 1, 82)
end
