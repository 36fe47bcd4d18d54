<?php
// phpredis.
//
// Usage: phpredis.php ENDPOINT
const LARGE_BYTES = 3 << 20;

function connect() {
    global $argv;
    $redis = new Redis();
    while (true) {
        try {
            is_numeric($argv[1]) ? $redis->connect('127.0.0.1', (int) $argv[1]) : $redis->connect($argv[1]);
            $redis->setOption(Redis::OPT_READ_TIMEOUT, -1);
            return $redis;
        } catch (RedisException $e) {
            usleep(20000); // the server is being restarted
        }
    }
}

// The test does what it is asked, and answers; a new connection where there is none any more.
function ask(&$redis, $what) {
    $id = $redis->rawCommand('CLIENT', 'ID');
    $redis->rPush('asked', "$what $id " . getmypid());
    while (true) {
        try {
            return $redis->blPop(["answer:$id"], 0)[1];
        } catch (RedisException $e) {
            $redis = connect();
        }
    }
}

function same($one, $other) {
    if ($one != $other) throw new Exception("$one is not $other");
}

function commands($redis, $count) {
    $total = 0;
    for ($number = 0; $number < $count; $number++) {
        $redis->set('key', $number);
        same($redis->get('key'), $number);
        $total += $redis->incr('counter');
    }
    return $total;
}

function pipeline($redis) {
    $pipeline = $redis->multi(Redis::PIPELINE);
    for ($number = 0; $number < 1000; $number++) $pipeline->incrBy('sum', $number);
    return $pipeline->exec()[999];
}

function large($redis) {
    $value = str_repeat(implode(array_map('chr', range(0, 255))), LARGE_BYTES / 256);
    $redis->set('large', $value);
    return $redis->get('large') === $value ? 'equal' : 'another one';
}

// A child subscribes, on a connection that was used before.
function messages($redis) {
    $pid = pcntl_fork();
    if ($pid == 0) {
        $other = connect();
        commands($other, 20);
        ask($other, 'check');
        $received = [];
        $other->subscribe(['channel'], function ($other, $channel, $message) use (&$received) {
            $received[] = $message;
            if (count($received) < 10) return;
            echo 'messages ', implode(' ', $received), "\n";
            posix_kill(getmypid(), SIGKILL); // exit() would end what belongs to the parent
        });
    }
    while ($redis->publish('channel', 'ready?') == 0) usleep(1000);
    for ($number = 0; $number < 9; $number++) $redis->publish('channel', $number);
    pcntl_waitpid($pid, $status);
}

// What is written to a file goes there, also if its number was a connection's.
function files($redis) {
    for ($number = 0; $number < 20; $number++) {
        for ($ping = 0; $ping < 20; $ping++) $redis->ping();
        $redis->close();
        $file = fopen('file.txt', 'w+');
        fwrite($file, "RPUSH leak $number\r\n");
        rewind($file);
        same(fread($file, 100), "RPUSH leak $number\r\n");
        fclose($file);
        $redis = connect();
    }
    return $redis->exists('leak');
}

$redis = connect();
echo 'commands ', commands($redis, 100), "\n";
echo 'pipeline ', pipeline($redis), "\n";
echo 'large ', large($redis), "\n";
echo 'asked ', ask($redis, 'check'), "\n";
messages($redis);
echo 'parent ', commands($redis, 50), ' ', ask($redis, 'check'), "\n";
echo 'timeout ', json_encode($redis->rawCommand('BLPOP', 'nothing', 0.05)), "\n";
foreach (['kill', 'restart'] as $what) {
    echo "$what ", ask($redis, $what), ' ', commands($redis, 50), ' ', ask($redis, 'check'), "\n";
}
echo 'file ', files($redis), "\n";

$redis = connect();
pcntl_async_signals(true);
pcntl_signal(SIGTERM, function () use (&$redis) {
    $redis->close();
    echo "stopped\n";
    exit(0);
});
// PHP calls the handler when the command has ended.
ask($redis, 'terminate-and-answer');
while (true) usleep(1000);
