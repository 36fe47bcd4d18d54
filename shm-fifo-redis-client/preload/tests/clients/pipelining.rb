# The example of Redis' page on pipelining, on a connection that has moved.
require "redis"

def bench(descr)
  start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
  yield
  $stderr.puts "#{descr} #{Process.clock_gettime(Process::CLOCK_MONOTONIC) - start} seconds"
end

def without_pipelining(redis)
  10_000.times { raise "no reply" unless redis.ping == "PONG" }
end

def with_pipelining(redis)
  replies = redis.pipelined { |pipeline| 10_000.times { pipeline.ping } }
  raise "#{replies.size} replies" unless replies == ["PONG"] * 10_000
end

redis = Redis.new(path: ARGV[0])
bench("without pipelining") { without_pipelining(redis) }
bench("with pipelining") { with_pipelining(redis) }
moved = redis.call("SHM.LIST").flatten.any? { |word| %w[hot parked].include?(word) }
raise "the connection did not move" unless moved
large = "y" * 5_000_000
redis.set("large", large)
raise "another value" unless redis.get("large") == large
redis.close
puts "passed"
