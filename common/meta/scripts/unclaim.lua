-- Names that conditional writes let go.
-- ARGV, for each: key, holder.
-- Answers for each: 1.
for i = 1, #ARGV, 2 do
  if redis.call('HGET', CLAIMANTS, ARGV[i]) == ARGV[i + 1] then
    end_claim(ARGV[i])
  end
end
return string.rep('1', #ARGV / 2)
