-- The settings of a bucket from now on.
-- ARGV[1]: settings value; ARGV[2]: how it keeps versions: 'Enabled', 'Suspended' or ''.
-- Answers 1, or 0 if a later change was there first.
if configure(ARGV[1], ARGV[2]) == 'S' then
  return 0
end
return 1
