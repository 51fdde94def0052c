-- Names in the order of bytes, and names that have versions beside the null one.
-- ARGV: lowest and highest, how many; lowest and highest among the names of versions; for how many
-- names to tell what they hold.
-- Answers {name, …} and {name of the newest version, …} of the first keys of either kind; then the
-- file values of the first names, if none of them has such versions.
local names = redis.call('ZRANGEBYLEX', NAMES, ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3])
local kept, low = {}, ARGV[4]
while any_kept and not hidden and #kept < tonumber(ARGV[3]) do
  local found = redis.call('ZRANGEBYLEX', KEPTNAMES, low, ARGV[5], 'LIMIT', 0, 1)
  if #found == 0 then
    break
  end
  kept[#kept + 1] = found[1]
  low = '(' .. string.sub(found[1], 1, -17) .. ':'
end
local told = #kept == 0 and math.min(#names, tonumber(ARGV[6])) or 0
return { names, kept, told > 0 and redis.call('HMGET', FILES, unpack(names, 1, told)) or {} }
