"""The Lua side of the Redis adapter: it compares, writes and adds, and knows nothing else.

Each script touches the keys of one shard, which share a hash tag, so it runs on one node and is
atomic. Payloads are MessagePack, one argument for a whole batch.
"""

LOAD = """
local out, wanted = {}, cmsgpack.unpack(ARGV[2])
for i = 1, #wanted, 2 do
  out[#out + 1] = redis.call('HGET', ARGV[1] .. 'e:' .. wanted[i], wanted[i + 1])
end
return out
"""
"""ARGV: key prefix, [bucket, id, ...]. Returns one packed entry or nil for each id."""

COMMIT = """
local p, c = ARGV[1], cmsgpack.unpack(ARGV[2])
local entries, names = 3, 3 + 4 * c.entries
for _, row in ipairs(c.cut) do
  if (redis.call('HGET', p .. 'cut', row[1]) or '') ~= row[2] then return 'CUT ' .. row[1] end
end
for i = entries, names - 1, 4 do
  local held = redis.call('HGET', p .. 'e:' .. ARGV[i], ARGV[i + 1]) or ''
  if held ~= ARGV[i + 2] then return 'ENTRY ' .. ARGV[i + 1] end
end
for i = names, #ARGV, 2 do
  local held = redis.call('HGET', p .. 'names', ARGV[i])
  if held and held ~= ARGV[i + 1] then return 'CLASH ' .. held .. ' / ' .. ARGV[i + 1] end
end
for i = names, #ARGV, 2 do redis.call('HSET', p .. 'names', ARGV[i], ARGV[i + 1]) end
for i = entries, names - 1, 4 do
  redis.call('HSET', p .. 'e:' .. ARGV[i], ARGV[i + 1], ARGV[i + 3])
end
for _, row in ipairs(c.cut) do redis.call('HSET', p .. 'cut', row[1], row[3]) end
for i = 1, #c.ledger, 2 do redis.call('HINCRBY', p .. 'ledger', c.ledger[i], c.ledger[i + 1]) end
for _, row in ipairs(c.panes) do
  local key, cells = p .. 'p:' .. row[1], row[4]
  for i = 1, #cells, 2 do redis.call('HINCRBY', key, cells[i], cells[i + 1]) end
  redis.call('ZADD', p .. 'panes:' .. row[2], row[3], row[1])
end
for _, key in ipairs(c.keys) do redis.call('SADD', p .. 'keys', key) end
for _, row in ipairs(c.votes) do
  local waits = row[1] == '' or redis.call('ZREM', p .. 'votes', row[1]) == 1
  if waits and row[2] ~= '' then redis.call('ZADD', p .. 'votes', row[3], row[2]) end
end
return 'OK'
"""
"""ARGV: key prefix, changes, then for each entry bucket, id, bytes expected ('' for none) and new
bytes, then for each name its code and itself: binary strings do not fit the MessagePack of Lua.
Returns OK, or what differed: CUT, ENTRY (load and step again) or CLASH (refuse)."""

SWEEP = """
local p, buckets, count, hour = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local at = tonumber(redis.call('GET', p .. 'sweep') or '0')
for _ = 1, count do
  local key, gone = p .. 'e:' .. at, {}
  local rows = redis.call('HGETALL', key)
  for i = 1, #rows, 2 do
    local a, b, c = string.byte(rows[i + 1], 1, 3)
    if a * 65536 + b * 256 + c <= hour then gone[#gone + 1] = rows[i] end
  end
  for i = 1, #gone, 1000 do
    redis.call('HDEL', key, unpack(gone, i, math.min(i + 999, #gone)))
  end
  at = (at + 1) % buckets
end
redis.call('SET', p .. 'sweep', at)
for i = 6, #ARGV do
  local index = p .. 'panes:' .. ARGV[i]
  for _, pane in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', ARGV[5], 'LIMIT', 0, 500)) do
    redis.call('UNLINK', p .. 'p:' .. pane)
    redis.call('ZREM', index, pane)
  end
end
return at
"""
"""ARGV: key prefix, buckets, buckets to look at, last expired hour, watermark, pane sizes."""

EVALUATE = """
local held = redis.call('HGET', KEYS[1], 'sequence') or '0'
if held ~= ARGV[1] then return 'SEQUENCE ' .. held end
redis.call('HSET', KEYS[1], 'sequence', ARGV[2], 'state', ARGV[3])
for i = 4, #ARGV do redis.call('RPUSH', KEYS[2], ARGV[i]) end
return 'OK'
"""
"""KEYS: evaluation, transitions. ARGV: sequence expected, sequence, state, transitions."""
