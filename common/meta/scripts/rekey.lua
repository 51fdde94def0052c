-- An access key from now on.
-- ARGV: access key id, access value. Answers 1, or 0 if a later change was there first.
if rekey(ARGV[1], ARGV[2]) == 'S' then
  return 0
end
return 1
