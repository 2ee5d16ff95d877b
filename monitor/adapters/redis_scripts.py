"""The Lua side of the Redis adapter: it compares, writes and adds, and knows nothing else.

Each script touches the keys of one shard, which share a hash tag, so it runs on one node and is
atomic. Payloads are MessagePack, one argument for a whole batch.

Keys are made up by the scripts, which a cluster allows within one hash slot. While a slot is moved
to another node, some of its keys are here and some are there, and one that is missing could be
either. Each script therefore also names a key that never exists: the server then refuses it, as it
does whenever not all keys named are in one place, and the worker waits until the slot has moved.

The first line tells the server what a script does, so that it refuses one as a whole, before the
first write, when it has no memory left, is a replica, or cannot write its log. Those with allow-oom
run without memory left: sweeping makes room, and what was delivered must not be delivered again.
"""

PROBE = """#!lua flags=allow-oom
local key, try = KEYS[1], redis.call
try('TIME')
try('HSET', key, 'n', '1') try('HINCRBY', key, 'n', '1') try('HGET', key, 'n')
try('HMGET', key, 'n') try('HGETALL', key) try('HDEL', key, 'n')
try('ZADD', key, '1', 'n') try('ZRANGEBYSCORE', key, '1', '1') try('ZMSCORE', key, 'n')
try('ZREM', key, 'n') try('ZREMRANGEBYSCORE', key, '1', '1')
try('ZREMRANGEBYRANK', key, '0', '0')
try('RPUSH', key, 'n') try('LRANGE', key, '0', '0') try('LINDEX', key, '0') try('LLEN', key)
try('LSET', key, '0', 'n') try('UNLINK', key)
try('SADD', key, 'n') try('UNLINK', key)
try('XADD', key, '1-0', 'n', '1') try('XRANGE', key, '-', '+') try('UNLINK', key)
try('SET', key, 'n') try('GET', key) try('APPEND', key, 'n') try('STRLEN', key)
try('GETRANGE', key, '0', '0') try('UNLINK', key)
try('INCR', key) try('UNLINK', key)
return 'OK'
"""
"""KEYS: one that nobody uses, beside those of a shard. Fails when the user may not do what the
other scripts do: they would fail at the same command, after a part of their work."""

LOAD = """#!lua flags=no-writes
local c = cmsgpack.unpack(ARGV[2])
local out = {(redis.call('HGET', ARGV[1] .. 'commits', 'begun') or '0')
  .. '/' .. (redis.call('GET', ARGV[1] .. 'dropped') or '0')}
local call, entries, runs, ids, from = redis.call, ARGV[1] .. 'e:', c.runs, c.ids, 1
for run, bucket in ipairs(c.buckets) do
  local past = from + runs[run]
  out[run + 1] = call('HMGET', entries .. bucket, unpack(ids, from, past - 1))
  from = past
end
return out
"""
"""ARGV: key prefix, ids by bucket: names of buckets, how many ids of each, the ids. Returns the
state of the shard, which every commit changes and whatever drops entries, then for each bucket the
packed entries, nil where there is none."""

COMMIT = """#!lua
local p, c = ARGV[1], cmsgpack.unpack(ARGV[2])
local sizes, ids, news = ARGV[3], ARGV[4], ARGV[5]
local panes = 6
local names = panes + 4 * c.panes
local expected = names + 2 * c.names
local commits = redis.call('HMGET', p .. 'commits', 'begun', 'ended')
if commits[1] ~= commits[2] then return {'HALF'} end
for _, row in ipairs(c.cut) do
  if (redis.call('HGET', p .. 'cut', row[1]) or '') ~= row[2] then return {'CUT ' .. row[1]} end
end
local state = (commits[1] or '0') .. '/' .. (redis.call('GET', p .. 'dropped') or '0')
if c.state ~= state then
  if expected + c.entries ~= #ARGV + 1 then return {'MOVED'} end
  local id, at = 1, 0
  for run, bucket in ipairs(c.buckets) do
    for _ = 1, c.runs[run] do
      local length = struct.unpack('<I4', sizes, 8 * at + 1)
      local key = string.sub(ids, id, id + length - 1)
      local held = redis.call('HGET', p .. 'e:' .. bucket, key) or ''
      if held ~= ARGV[expected + at] then return {'ENTRY ' .. key} end
      id, at = id + length, at + 1
    end
  end
end
local unnamed = {}
for i = names, expected - 1, 2 do
  local held = redis.call('HGET', p .. 'names', ARGV[i])
  if not held then unnamed[#unnamed + 1] = i
  elseif held ~= ARGV[i + 1] then return {'CLASH ' .. held .. ' / ' .. ARGV[i + 1]} end
end
local begun = redis.call('HINCRBY', p .. 'commits', 'begun', 1)
local version = c.opening .. string.format('%08x', begun)
local done = {c.state == state and 'OK' or 'COMPARED'}
for _, i in ipairs(unnamed) do redis.call('HSET', p .. 'names', ARGV[i], ARGV[i + 1]) end
local call, read, sub, runs, entries = redis.call, struct.unpack, string.sub, c.runs, p .. 'e:'
local id, new, at = 1, 1, 1
for run, bucket in ipairs(c.buckets) do
  local row = {}
  for i = 1, 2 * runs[run], 2 do
    local length, size = read('<I4I4', sizes, at)
    row[i] = sub(ids, id, id + length - 1)
    row[i + 1] = sub(news, new, new + size - 1)
    id, new, at = id + length, new + size, at + 8
  end
  call('HSET', entries .. bucket, unpack(row))
end
for _, row in ipairs(c.cut) do redis.call('HSET', p .. 'cut', row[1], row[3]) end
for i = 1, #c.ledger, 2 do redis.call('HINCRBY', p .. 'ledger', c.ledger[i], c.ledger[i + 1]) end
for i = panes, names - 1, 4 do
  local key, added = p .. 'p:' .. ARGV[i], ARGV[i + 3] .. version
  local length = redis.call('APPEND', key, added)
  if length == #added then
    redis.call('ZADD', p .. 'panes:' .. ARGV[i + 1], ARGV[i + 2], ARGV[i])
  elseif length > c.long and #done <= c.most_long then
    local a, b, x, y = string.byte(redis.call('GETRANGE', key, 0, 3), 1, 4)
    if length > 2 * (((a * 256 + b) * 256 + x) * 256 + y) then done[#done + 1] = ARGV[i] end
  end
end
for _, key in ipairs(c.keys) do redis.call('SADD', p .. 'keys', key) end
for _, row in ipairs(c.votes) do
  local waits = row[1] == '' or redis.call('ZREM', p .. 'votes', row[1]) == 1
  if waits and row[2] ~= '' then redis.call('ZADD', p .. 'votes', row[3], row[2]) end
end
for _, row in ipairs(c.misses) do
  if row[1] ~= '' then redis.call('ZREM', p .. 'misses', row[1]) end
  if row[2] ~= '' then redis.call('ZADD', p .. 'misses', row[3], row[2]) end
end
if #c.misses > 0 then redis.call('ZREMRANGEBYRANK', p .. 'misses', 0, -c.misses_kept - 1) end
redis.call('HSET', p .. 'commits', 'ended', begun)
return done
"""
"""ARGV: key prefix, changes; of each entry, by bucket, length of the id and length of the new
bytes, of four bytes each; all ids; all new bytes; for each pane its name, size, when it is dropped
and what is added, without the version; for each name its code and itself; and, where the shard may
have moved since they were loaded, the bytes expected of each entry ('' for none). Binary strings do
not fit the MessagePack of Lua.

Returns OK, or COMPARED where the shard had moved and the entries had not, and the panes that have
become long; or what differed: CUT, ENTRY (load and step again),
MOVED (send what is expected of the entries), CLASH (refuse), or HALF: commits begun (counted) and
ended (set) differ, as they do on a server whose append-only file was cut off in the middle of a
commit and is loaded for the second time."""

FOLD = """#!lua
for i = 2, #ARGV, 4 do
  local key = ARGV[1] .. 'p:' .. ARGV[i]
  if redis.call('STRLEN', key) == tonumber(ARGV[i + 1])
    and redis.call('GETRANGE', key, -16, -1) == ARGV[i + 2] then
    redis.call('SET', key, ARGV[i + 3])
  end
end
return 'OK'
"""
"""ARGV: key prefix, then for each pane its name, length and version expected, and the same counts
in one piece. What is not as expected stays: somebody has added to it, or folded it."""

READ = """#!lua flags=no-writes
local out, wanted = {}, cmsgpack.unpack(ARGV[2])
for i = 1, #wanted, 3 do
  local key, known, version = ARGV[1] .. 'p:' .. wanted[i], wanted[i + 1], wanted[i + 2]
  local length, from = redis.call('STRLEN', key), nil
  if length == 0 then
    if version ~= '' then from = 0 end
  elseif redis.call('GETRANGE', key, -16, -1) ~= version then
    from = 0
    if length > known and known > 0
      and redis.call('GETRANGE', key, known - 16, known - 1) == version then
      from = known
    end
  end
  if from then
    out[#out + 1] = (i - 1) / 3
    out[#out + 1] = from
    out[#out + 1] = redis.call('GETRANGE', key, from, -1)
  end
end
return out
"""
"""ARGV: key prefix, [name, length, version, ...] as they are known. Returns the place of each pane
that has another version, from 0 on, and from where on what is given, to the end, is new; 0 where
all of it is. One that is not there has the version ''."""

ERASE = """#!lua flags=allow-oom
local p, erased, entries = ARGV[1], redis.call('HGET', ARGV[1] .. 'erased', ARGV[2]), 5
if erased then return {'OK', erased} end
local votes = entries + 3 * tonumber(ARGV[3])
local misses = votes + tonumber(ARGV[4])
for i = entries, votes - 1, 3 do
  local held = redis.call('HGET', p .. 'e:' .. ARGV[i], ARGV[i + 1]) or ''
  if held ~= ARGV[i + 2] then return {'ENTRY', ''} end
end
for i = entries, votes - 1, 3 do redis.call('HDEL', p .. 'e:' .. ARGV[i], ARGV[i + 1]) end
for i = votes, misses - 1 do redis.call('ZREM', p .. 'votes', ARGV[i]) end
for i = misses, #ARGV do redis.call('ZREM', p .. 'misses', ARGV[i]) end
redis.call('INCR', p .. 'dropped')
local cut = table.concat(redis.call('HGETALL', p .. 'cut'), '\\n')
redis.call('UNLINK', p .. 'erased')
redis.call('HSET', p .. 'erased', ARGV[2], cut)
return {'OK', cut}
"""
"""ARGV: key prefix, id of the request, numbers of entries and of votes, then for each entry its
bucket, id and bytes expected ('' for none), then the votes, then the misses. As long as the entries
are what they were, no vote or miss of theirs has come that is not named. Returns OK and the cut as
lines, field and value in turn; or ENTRY: look again. What is done is remembered last, so that half
of it is done again."""

MASK = """#!lua flags=allow-oom
local transitions, masked = 3, 3 + 3 * tonumber(ARGV[2])
redis.call('HSET', KEYS[3], 'masked', ARGV[1])
for i = transitions, masked - 1, 3 do
  if redis.call('LINDEX', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    redis.call('LSET', KEYS[1], ARGV[i], ARGV[i + 2])
  end
end
for i = masked, #ARGV, 3 do
  if redis.call('HGET', KEYS[2], ARGV[i]) == ARGV[i + 1] then
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 2])
  end
end
return 'OK'
"""
"""KEYS: transitions, deliveries, evaluation. ARGV: a mark that nobody has left before, number of
transitions, for each its index, bytes expected and new bytes, then the same for each receiver, by
name. What is not as expected stays. The mark tells readers that what they know has changed."""

SWEEP = """#!lua flags=allow-oom
local p, buckets, count, hour = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local at = tonumber(redis.call('GET', p .. 'sweep') or '0')
local byte = string.byte
for _ = 1, count do
  local key, gone = p .. 'e:' .. at, {}
  local rows = redis.call('HGETALL', key)
  for i = 1, #rows, 2 do
    local a, b, c = byte(rows[i + 1], 1, 3)
    if a * 65536 + b * 256 + c <= hour then gone[#gone + 1] = rows[i] end
  end
  if #gone > 0 then redis.call('INCR', p .. 'dropped') end
  for i = 1, #gone, 1000 do
    redis.call('HDEL', key, unpack(gone, i, math.min(i + 999, #gone)))
  end
  at = (at + 1) % buckets
end
redis.call('SET', p .. 'sweep', at)
redis.call('ZREMRANGEBYSCORE', p .. 'misses', '-inf', '(' .. ARGV[6])
for i = 7, #ARGV do
  local index = p .. 'panes:' .. ARGV[i]
  for _, pane in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', ARGV[5], 'LIMIT', 0, 500)) do
    redis.call('UNLINK', p .. 'p:' .. pane)
    redis.call('ZREM', index, pane)
  end
end
return at
"""
"""ARGV: key prefix, buckets, buckets to look at, last expired hour, watermark, instant from which
on misses are kept, pane sizes."""

_LEASE_MUST_BE = """
local lease = redis.call('HMGET', KEYS[1], 'owner', 'fence')
if lease[1] ~= ARGV[1] or lease[2] ~= ARGV[2] then
  return 'fence ' .. (lease[2] or '0') .. ' was given to ' .. (lease[1] or 'nobody')
end
"""

LEAD = """#!lua
local held = redis.call('HMGET', KEYS[1], 'owner', 'fence', 'until')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local fence = held[2] or '0'
if held[1] ~= ARGV[1] then
  if held[1] and now < tonumber(held[3]) then return nil end
  fence = string.format('%d', fence + 1)
end
local ending = string.format('%.0f', now + ARGV[2])
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'fence', fence, 'until', ending)
return fence
"""
"""KEYS: lease. ARGV: worker, length in milliseconds. Returns the fence, or nil."""

RESIGN = (
    "#!lua flags=allow-oom"
    + _LEASE_MUST_BE
    + """
redis.call('HSET', KEYS[1], 'until', '0')
return 'OK'
"""
)
"""KEYS: lease. ARGV: worker, fence. Returns OK, or whose the lease is."""

JOURNAL_ENTRIES = 100_000
"""Journal entries kept at least, as far as there are so many."""

REWRITTEN_ENTRIES = 1_000
"""Journal entries kept at least when the stream has to be written anew."""

EVALUATE = (
    "#!lua"
    + _LEASE_MUST_BE
    + f"""
local journal_entries, rewritten_entries = {JOURNAL_ENTRIES}, {REWRITTEN_ENTRIES}"""
    + """
local held = redis.call('HMGET', KEYS[2], 'sequence', 'length', 'published')
local sequence = held[1] or '0'
if sequence ~= ARGV[3] then return 'sequence ' .. sequence .. ' is stored' end
local length = redis.call('LLEN', KEYS[3])
if held[2] and tonumber(held[2]) ~= length then return 'HALF' end
local first = 10
local last = first - 1 + tonumber(ARGV[6])
local published = math.min(tonumber(held[3] or '0'), tonumber(sequence))
if ARGV[7] ~= '' then
  local function id_from(entries)
    return string.format('%d-0', math.max(0, math.min(published, ARGV[4] - entries) + 1))
  end
  local id = ARGV[4] .. '-0'
  if #redis.call('XRANGE', KEYS[5], id, '+', 'COUNT', 1) > 0 then
    local from = id_from(rewritten_entries)
    local kept = redis.call('XRANGE', KEYS[5], from, sequence .. '-0')
    redis.call('UNLINK', KEYS[5])
    for _, row in ipairs(kept) do redis.call('XADD', KEYS[5], row[1], unpack(row[2])) end
  end
  redis.call('XADD', KEYS[5], 'MINID', '~', id_from(journal_entries), id, 'e', ARGV[7])
  if ARGV[9] ~= '' then redis.call('HSET', KEYS[6], ARGV[8], ARGV[9]) end
end
length = string.format('%d', length + last - first + 1)
redis.call('HSET', KEYS[2], 'sequence', ARGV[4], 'state', ARGV[5], 'length', length,
  'published', string.format('%d', published))
for i = first, last do redis.call('RPUSH', KEYS[3], ARGV[i]) end
for i = last + 1, #ARGV, 2 do redis.call('ZADD', KEYS[4], ARGV[i + 1], ARGV[i]) end
return 'OK'
"""
)
"""KEYS: lease, evaluation, transitions, voices, journal, settings. ARGV: worker, fence, sequence
expected, sequence, state, number of transitions, journal entry ('' for none), its settings digest
and document ('' for none), the transitions, then for each voice its name and the release of its
vote. Returns OK, or what differed.

The journal comes first: when half of this is loaded from a log that was cut off, an entry is left
above the sequence that holds. It is taken away here; a stream refuses an id below its last one
even when that one is gone, so it is then written anew. An entry that was not published stays."""

UNPUBLISHED = """#!lua flags=no-writes
local held = redis.call('HMGET', KEYS[1], 'sequence', 'published')
local sequence = held[1] or '0'
local from = math.min(tonumber(held[2] or '0'), tonumber(sequence)) + 1
return redis.call('XRANGE', KEYS[2], string.format('%d-0', from), sequence .. '-0',
  'COUNT', ARGV[1])
"""
"""KEYS: evaluation, journal. ARGV: how many at most."""

PUBLISHED = (
    "#!lua flags=allow-oom"
    + _LEASE_MUST_BE
    + """
local held = redis.call('HMGET', KEYS[2], 'sequence', 'published')
local reached = math.min(tonumber(ARGV[3]), tonumber(held[1] or '0'))
if reached > tonumber(held[2] or '0') then
  redis.call('HSET', KEYS[2], 'published', string.format('%d', reached))
end
return 'OK'
"""
)
"""KEYS: lease, evaluation. ARGV: worker, fence, sequence. Returns OK, or whose the lease is."""

OUTBOX = """#!lua flags=no-writes
local first = tonumber(redis.call('HGET', KEYS[1], 'delivered') or '0')
return redis.call('LRANGE', KEYS[2], first, first + ARGV[1] - 1)
"""
"""KEYS: evaluation, transitions. ARGV: how many at most."""

DELIVERED = (
    "#!lua flags=allow-oom"
    + _LEASE_MUST_BE
    + """
local first = tonumber(redis.call('HGET', KEYS[2], 'delivered') or '0')
local past = first
for i = 3, #ARGV do
  local head = redis.call('LINDEX', KEYS[3], past)
  if head and cjson.decode(head).id == ARGV[i] then past = past + 1 end
end
if past > first then redis.call('HSET', KEYS[2], 'delivered', string.format('%d', past)) end
return 'OK'
"""
)
"""KEYS: lease, evaluation, transitions. ARGV: worker, fence, ids of transitions. Returns OK, or
whose the lease is."""

SAVE_DELIVERY = (
    "#!lua flags=allow-oom"
    + _LEASE_MUST_BE
    + """
redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
return 'OK'
"""
)
"""KEYS: lease, deliveries. ARGV: worker, fence, receiver, state. Returns OK, or whose the lease
is."""

ACT = """#!lua
for _, row in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  if cjson.decode(row).id == ARGV[1] then return 'OK' end
end
redis.call('RPUSH', KEYS[1], ARGV[2])
return 'OK'
"""
"""KEYS: actions. ARGV: id, action. One write, so that there is no half of it."""
