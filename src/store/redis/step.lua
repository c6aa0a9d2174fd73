-- A step of a move: the standing changes from what it was seen to be. ARGV: that, and the new one.
-- Answers how the bucket stands then.

if standing == ARGV[2] then return standing end
if standing ~= ARGV[1] then return standing end
if ARGV[2] == 'serving' then
  call('DEL', base .. 'M')
else
  call('SET', base .. 'M', ARGV[2])
end
return ARGV[2]
