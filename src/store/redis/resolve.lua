-- A person says how an unknown outcome ended.
--
-- ARGV: key, not after; then, where it was done: status, headers, body, retention.
-- Answers: D done · P in progress · C completed otherwise · N not found · L late.

local kept, was_done = find(ARGV[1]), ARGV[3] ~= nil
if now > tonumber(ARGV[2]) then return 'L' end
if not kept then return was_done and 'N' or 'D' end
if kept.state == 'in progress' then return 'P' end
if kept.state == 'completed' then
  local saved = call('HMGET', base .. 'i' .. kept.id, 'st', 'h', 'y')
  local same = saved[1] == ARGV[3] and saved[2] == ARGV[4] and saved[3] == ARGV[5]
  return same and 'D' or 'C'
end
if was_done then
  save(kept, ownerless, ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]))
else
  free(kept)
end
return 'D'
