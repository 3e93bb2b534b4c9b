-- What every script does with a record that is there: which state it is in. A value that this release does not read is shown
-- to the caller, who says what is wrong with it. `frame.rs` has the layouts, whose offsets stand in all scripts (Lua counts
-- from 1).
local state = string.sub(value, 1, 1)
if not ((state == 'I' and #value == 70) or (state == 'A' and #value == 76) or (state == 'R' and #value == 28)
  or (state == 'C' and #value >= 59)) then
  return string.sub(value, 1, 80)
end
