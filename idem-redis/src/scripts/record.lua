-- What every script knows of a record: which state it is in, or nil for a value that this release does not read.
-- `frame.rs` has the layouts, whose offsets stand in all scripts (Lua counts from 1).
local function state_of(value)
  local state = string.sub(value, 1, 1)
  if (state == 'I' and #value == 70) or (state == 'A' and #value == 76) or (state == 'R' and #value == 28)
    or (state == 'C' and #value >= 59) then
    return state
  end
end
