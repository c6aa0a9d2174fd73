-- Keeps what a person says about a handler. ARGV: the field, the value.

call('HSET', base .. 'C', ARGV[1], ARGV[2])
return 'K'
