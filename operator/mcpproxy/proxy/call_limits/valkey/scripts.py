"""Scripts that the server runs, each as one step."""

from typing import Final

from mcpproxy.proxy.call_limits.window import GRAINS, OUTSTANDING

LEASE: Final = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local calls, period, burst = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local wanted, asker, user = tonumber(ARGV[4]), 'h' .. ARGV[5], 'u' .. ARGV[5]
local grain, interval = period / GRAINS, period / calls
local total, paced, ahead, entries, users = 0, 0, 0, {}, 1
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local name, value = all[i], all[i + 1]
  local kind = string.sub(name, 1, 1)
  if name == 'p' then
    paced = tonumber(value)
  elseif kind == 'u' then
    if tonumber(value) <= now - period then redis.call('HDEL', KEYS[1], name)
    elseif name ~= user then users = users + 1 end
  elseif kind == 'h' then
    local due, count = string.match(value, '(%d+):(%d+)')
    if tonumber(due) < now - 1000 then redis.call('HDEL', KEYS[1], name)
    elseif name ~= asker then ahead = ahead + tonumber(count) end
  else
    local g, n = tonumber(name), tonumber(value)
    if (g + 1) * grain <= now - period then redis.call('HDEL', KEYS[1], name)
    else total = total + n; entries[#entries + 1] = {g, n} end
  end
end
redis.call('HSET', KEYS[1], user, string.format('%d', now))
wanted = math.max(math.min(wanted, math.floor(calls * OUTSTANDING / users)), 1)
local count = wanted
if burst > 0 then
  count = math.min(wanted, math.floor(burst - math.max(paced - now, 0) / interval + 0.000001))
else
  count = math.min(wanted, calls - total)
end
count = math.max(count, 0)
local slot = math.floor(now / grain)
if count > 0 then
  redis.call('HINCRBY', KEYS[1], string.format('%d', slot), count)
  paced = math.max(paced, now) + count * interval
  redis.call('HSET', KEYS[1], 'p', string.format('%.3f', paced))
  total = total + count
  entries[#entries + 1] = {slot, count}
end
local wait = 0
if count < wanted or ahead > 0 then
  local everything = wanted + ahead
  local excess = total + everything - calls
  if burst > 0 then
    wait = math.max(paced - now - (burst - everything) * interval, 0)
  elseif excess > 0 then
    table.sort(entries, function(a, b) return a[1] < b[1] end)
    wait = period * (1 + excess / calls)
    for _, entry in ipairs(entries) do
      excess = excess - entry[2]
      if excess <= 0 then
        wait = (entry[1] + 1) * grain + period - now
        break
      end
    end
  end
  wait = math.ceil(math.max(wait, 1))
  redis.call('HSET', KEYS[1], asker, string.format('%d:%d', now + wait, wanted))
else
  redis.call('HDEL', KEYS[1], asker)
end
redis.call('PEXPIRE', KEYS[1], math.ceil(period * 2 + 1000))
return {count, math.ceil(wait), slot}
""".replace("GRAINS", str(GRAINS)).replace("OUTSTANDING", str(OUTSTANDING))

"""Script that counts calls of a subject and returns their number, the milliseconds until more
should be asked for, and the grain in which they are counted.

It counts like `CallWindow` and `WindowTable`, by the clock of the server.
"""

HOLD: Final = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local limit, wanted, running = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local holder, time, others = ARGV[4], tonumber(ARGV[5]), 0
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if all[i] ~= holder then
    local count, ends = string.match(all[i + 1], '(%d+):(%d+)')
    if tonumber(ends) <= now then redis.call('HDEL', KEYS[1], all[i])
    else others = others + tonumber(count) end
  end
end
local count = math.max(math.min(wanted, limit - others), math.min(running, wanted), 0)
if count > 0 then
  redis.call('HSET', KEYS[1], holder, string.format('%d:%d', count, now + time))
  redis.call('PEXPIRE', KEYS[1], time)
else
  redis.call('HDEL', KEYS[1], holder)
end
return count
"""
"""Script that lets an instance hold slots, and returns how many. It counts like `HoldTable`."""

GIVE_BACK: Final = """
local n = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0')
local count = math.min(n, tonumber(ARGV[2]))
if count > 0 then
  redis.call('HINCRBY', KEYS[1], ARGV[1], -count)
  local paced = tonumber(redis.call('HGET', KEYS[1], 'p') or '0') - count * tonumber(ARGV[3])
  redis.call('HSET', KEYS[1], 'p', string.format('%.3f', paced))
end
return count
"""
"""Script that withdraws calls of a lease."""
