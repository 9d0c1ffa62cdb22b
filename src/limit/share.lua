-- Counts calls that processes have let through, for many keys at once, and says what each key has used now. Redis runs it
-- whole, so no two processes count over one another. It counts as limit/count.rs does, in microseconds of Redis' own clock.
-- KEYS: one a limit. ARGV, for each key: its kind ("t", "f", "s"), the calls, the window, one call's part of it.
-- Answers, for each key: a bucket's time until it is full, or a window's since it began; its calls; those before.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local answer = {}
for i, key in ipairs(KEYS) do
  local kind = ARGV[4 * i - 3]
  local calls = tonumber(ARGV[4 * i - 2])
  local window = tonumber(ARGV[4 * i - 1])
  local at, count, before = now, 0, 0
  local held = redis.call('GET', key)
  if held then
    local a, c, b = string.match(held, '^(%d+) (%d+) (%d+)$')
    if a then at, count, before = tonumber(a), tonumber(c), tonumber(b) end
    -- What no process could have written, as after a change of the clock, holds nobody up for long.
    if kind == 't' then at = math.min(at, now + 16 * window) else at = math.min(at, now) end
  end
  local expires
  if kind == 't' then
    at = math.max(at, now) + calls * tonumber(ARGV[4 * i])
    expires = at - now
    answer[#answer + 1] = { math.ceil(at - now), 0, 0 }
  else
    local passed = math.floor((now - at) / window)
    if kind == 's' and passed == 1 then
      at, count, before = at + window, 0, count
    elseif passed >= 1 then
      at, count, before = now, 0, 0
    end
    count = math.min(count + calls, 4294967295)
    expires = at + 2 * window - now
    answer[#answer + 1] = { math.max(now - at, 0), count, before }
  end
  -- Each key goes by itself, a second after it has ceased to count.
  redis.call('SET', key, string.format('%.0f %.0f %.0f', at, count, before), 'PX', math.ceil(expires / 1000) + 1000)
end
return answer
