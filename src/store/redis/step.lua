-- A step of a move: the standing changes from what it was seen to be. ARGV: that, and the new one.
-- Answers how the bucket stands then. What was said about handlers goes when it begins to be filled: an empty
-- bucket may have some, which must not mix with what comes.

if standing == ARGV[2] then return standing end
if standing ~= ARGV[1] then return standing end
if ARGV[2] == 'serving' then
  call('DEL', base .. 'M')
else
  if ARGV[2]:sub(1, 8) == 'filling ' then call('DEL', base .. 'C') end
  call('SET', base .. 'M', ARGV[2])
end
return ARGV[2]
