<?php
// phpredis: pings, a pipeline, a large value.
function check($condition, $what) {
    if (!$condition) {
        fwrite(STDERR, "$what\n");
        exit(1);
    }
}

$redis = new Redis();
$redis->connect($argv[1]);
for ($number = 0; $number < 100; $number++) {
    check($redis->ping(), 'ping');
    check($redis->set('key', $number) && $redis->get('key') == $number, 'set and get');
}
check(preg_match('/hot|parked/', json_encode($redis->rawCommand('SHM.LIST'))), 'the connection did not move');
$pipeline = $redis->multi(Redis::PIPELINE);
for ($number = 0; $number < 1000; $number++) {
    $pipeline->ping();
}
check(count($pipeline->exec()) == 1000, 'pipeline');
$large = str_repeat('y', 5000000);
check($redis->set('large', $large) && $redis->get('large') === $large, 'a large value');
$redis->close();
echo "passed\n";
