-- Names in the order of bytes, and names that have versions beside the null one.
-- ARGV: lowest and highest, how many; lowest and highest among the names of versions; for how many
-- names of either kind to tell what they hold.
-- Answers {name, …} and {name of the newest version, …} of the first keys of either kind, the file
-- values of the first of these, and of those; and of how many names that is the page: fewer than
-- were asked for where each one has to be looked for.
local most, told = tonumber(ARGV[3]), tonumber(ARGV[6])
if any_kept and not hidden then
  most = math.min(most, 257)
end
local names = redis.call('ZRANGEBYLEX', NAMES, ARGV[1], ARGV[2], 'LIMIT', 0, most)
local kept, low = {}, ARGV[4]
while any_kept and not hidden and #kept < most do
  local found = redis.call('ZRANGEBYLEX', KEPTNAMES, low, ARGV[5], 'LIMIT', 0, 1)
  if #found == 0 then
    break
  end
  kept[#kept + 1] = found[1]
  low = '(' .. string.sub(found[1], 1, -17) .. ':'
end
local values, kept_values = {}, {}
if #names > 0 and told > 0 then
  values = redis.call('HMGET', FILES, unpack(names, 1, math.min(#names, told)))
end
if #kept > 0 and told > 0 then
  kept_values = redis.call('HMGET', KEPT, unpack(kept, 1, math.min(#kept, told)))
end
return { names, kept, values, kept_values, most - 1 }
