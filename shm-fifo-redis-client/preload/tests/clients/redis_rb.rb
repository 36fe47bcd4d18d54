# Ruby's redis, and the example of Redis' page on pipelining.
#
# Usage: redis_rb.rb ENDPOINT
require "redis"

$stdout.sync = true
LARGE = [*0..255].pack("C*") * 12_288 # 3 MiB

def connect
  where = ARGV[0].match?(/\A\d+\z/) ? { port: ARGV[0].to_i } : { path: ARGV[0] }
  Redis.new(**where, timeout: 100, reconnect_attempts: 200, reconnect_delay: 0.02, reconnect_delay_max: 0.02)
end

# The test does what it is asked, and answers.
def ask(redis, what)
  id = redis.call("CLIENT", "ID")
  redis.rpush("asked", "#{what} #{id} #{Process.pid}")
  begin
    redis.blpop("answer:#{id}")[1]
  rescue Redis::BaseConnectionError
    retry
  end
end

def commands(redis, count)
  # Replies that are there at once are no reason to wait, which Ruby has to be seen to do.
  redis.blpop("nothing", timeout: 0.001)
  count.times.sum do |number|
    redis.set("key", number)
    raise "another value" unless redis.get("key") == number.to_s
    redis.incr("counter")
  end
end

def large(redis)
  redis.set("large", LARGE)
  redis.get("large").b == LARGE
end

# The example of https://redis.io/topics/pipelining.
def without_pipelining(redis)
  10_000.times.count { redis.ping == "PONG" }
end

def with_pipelining(redis)
  redis.pipelined { |pipeline| 10_000.times { pipeline.ping } }.count("PONG")
end

# A thread subscribes, on a connection that was used before.
def messages(redis)
  ready = Queue.new
  subscriber = Thread.new do
    other = connect
    commands(other, 20)
    ask(other, "check")
    received = []
    other.subscribe("channel") do |on|
      on.subscribe { ready << true }
      on.message do |_, message|
        received << message
        other.unsubscribe if received.size == 10
      end
    end
    other.close
    received
  end
  ready.pop
  10.times { |number| redis.publish("channel", number) }
  subscriber.value.join(" ")
end

# What is written to a file goes there, also if its number was a connection's.
def files(redis)
  20.times do |number|
    20.times { redis.ping }
    redis.close
    File.open("file.txt", "w+") do |file|
      file.write("RPUSH leak #{number}\r\n")
      file.rewind
      raise "another text" unless file.read == "RPUSH leak #{number}\r\n"
    end
  end
  redis.exists("leak")
end

# A child takes a connection of its own, and the parent's goes on.
def fork_child(redis)
  commands(redis, 50)
  child = fork do
    other = connect
    puts "child #{commands(other, 50)} #{ask(other, "check")}"
    exit!(0)
  end
  Process.wait(child)
  "#{$?.exitstatus} #{commands(redis, 50)} #{ask(redis, "check")}"
end

redis = connect
puts "commands #{commands(redis, 100)}"
puts "pipelining #{without_pipelining(redis)} #{with_pipelining(redis)}"
puts "large #{large(redis)}"
puts "asked #{ask(redis, "check")}"
puts "messages #{messages(redis)}"
puts "timeout #{redis.blpop("nothing", timeout: 0.05).inspect}"
%w[kill restart].each do |what|
  puts "#{what} #{ask(redis, what)} #{commands(redis, 50)} #{ask(redis, "check")}"
end
puts "file #{files(redis)}"
puts "parent #{fork_child(redis)}"
trap("TERM") { exit }
at_exit { puts "stopped" if $!.is_a?(SystemExit) }
ask(redis, "terminate")
