-- Notes that a refused request was admitted after all; the first note stays. ARGV: its id, the note.

local key = base .. 'n' .. ARGV[1]
if call('EXISTS', key) == 1 then call('HSETNX', key, 'ra', ARGV[2]) end
return 'K'
