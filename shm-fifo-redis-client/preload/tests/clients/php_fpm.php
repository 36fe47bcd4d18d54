<?php
// A page, served by php-fpm: a connection that outlives the request, kept by its worker.
$endpoint = getenv('ENDPOINT');
$redis = new Redis();
while (true) {
    try {
        is_numeric($endpoint) ? $redis->pconnect('127.0.0.1', (int) $endpoint) : $redis->pconnect($endpoint);
        $redis->setOption(Redis::OPT_READ_TIMEOUT, -1);
        $redis->ping();
        break;
    } catch (RedisException $e) {
        usleep(20000); // the server was restarted
    }
}
$served = 0;
for ($number = 0; $number < 20; $number++) {
    $redis->set('key:' . getmypid(), $number);
    $served += $redis->get('key:' . getmypid()) == $number;
}
$large = str_repeat('0123456789abcdef', 3 << 16); // 3 MiB
$redis->set('large:' . getmypid(), $large);
$served += $redis->get('large:' . getmypid()) === $large;
// The test does what it is asked, and answers.
$what = $_SERVER['QUERY_STRING'];
if ($what != '') {
    $id = $redis->rawCommand('CLIENT', 'ID');
    $redis->rPush('asked', "$what $id " . getmypid());
    try {
        $redis->blPop(["answer:$id"], 0);
    } catch (RedisException $e) {
        // Its connection was ended while it waited, and not before.
    }
    $served .= ' asked';
}
echo $served;
