-- Saves the answer of an owner's work. ARGV: key, owner, status, headers, body, retention.
-- Answers: K kept, or this very completion sent again · L lost.

local kept = find(ARGV[1])
if not kept or kept.owner ~= ARGV[2] then return 'L' end
if kept.state ~= 'completed' then
  save(kept, kept.owner, ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]))
end
return 'K'
