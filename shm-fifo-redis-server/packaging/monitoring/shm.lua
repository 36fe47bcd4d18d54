-- The figures of INFO shm for redis_exporter, which asks for INFO ALL, where modules' are
-- missing:  redis_exporter --script shm.lua
-- They become redis_script_values{key="shm_sessions"} and so on; docs/deployment.md has the
-- relabelling by which they get their own names.
local figures = {}
for name, value in string.gmatch(redis.call('INFO', 'shm'), '(shm_[%w_]+):(%d+)\r\n') do
  figures[#figures + 1] = name
  figures[#figures + 1] = value
end
return figures
