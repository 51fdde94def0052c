-- Events that come with no change.
-- ARGV: for each what post wants. Answers how many.
for _, event in ipairs(ARGV) do
  post(event)
end
return #ARGV
