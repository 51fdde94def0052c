-- The settings of a bucket from now on.
-- ARGV[1]: settings value; ARGV[2]: what scripts go by of them, as configure wants it.
-- Answers 1, or 0 if a later change was there first.
if configure(ARGV[1], ARGV[2]) == 'S' then
  return 0
end
return 1
