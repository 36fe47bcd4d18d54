# Perl's Redis.
#
# Usage: redis_pm.pl ENDPOINT
use strict;
use warnings;
use Redis;

$| = 1;
my $large = join('', map { chr } 0 .. 255) x 12288;    # 3 MiB

sub connection {
    my @where = $ARGV[0] =~ /^\d+$/ ? (server => "127.0.0.1:$ARGV[0]") : (sock => $ARGV[0]);
    return Redis->new(@where, encoding => undef, reconnect => 60, every => 20_000);
}

# The test does what it is asked, and answers.
sub ask {
    my ($redis, $what) = @_;
    my $id = $redis->client_id;
    $redis->rpush('asked', "$what $id $$");
    while (1) {
        my @answer = eval { $redis->blpop("answer:$id", 0) };
        return $answer[1] if @answer;
    }
}

sub commands {
    my ($redis, $count) = @_;
    my $total = 0;
    for my $number (0 .. $count - 1) {
        $redis->set('key', $number);
        die 'another value' if $redis->get('key') != $number;
        $total += $redis->incr('counter');
    }
    return $total;
}

sub pipeline {
    my ($redis) = @_;
    my $last;
    $redis->incrby('sum', $_, sub { $last = $_[0] }) for 0 .. 999;
    $redis->wait_all_responses;
    return $last;
}

sub large {
    my ($redis) = @_;
    $redis->set('large', $large);
    return $redis->get('large') eq $large ? 'equal' : 'another one';
}

# A child subscribes, on a connection that was used before.
sub messages {
    my ($redis) = @_;
    my $pid = fork;
    if (!$pid) {
        my $other = connection();
        commands($other, 20);
        ask($other, 'check');
        my ($third, @received) = connection();
        # One after the other: Redis.pm sleeps beside what came together with something else.
        $other->subscribe('channel', sub { push @received, $_[0]; $third->rpush('taken', 1) });
        $third->rpush('taken', 0);
        $other->wait_for_messages(1) while @received < 10;
        print "messages @received\n";
        kill 'KILL', $$;    # what belongs to the parent stays as it is
    }
    for my $number (0 .. 9) {
        $redis->blpop('taken', 0);
        $redis->publish('channel', $number);
    }
    waitpid $pid, 0;
}

# What is written to a file goes there, also if its number was a connection's.
sub files {
    for my $number (0 .. 19) {
        my $redis = connection();
        $redis->ping for 1 .. 20;
        $redis->quit;
        open my $file, '+>', 'file.txt' or die $!;
        print $file "RPUSH leak $number\r\n";
        seek $file, 0, 0;
        my $text = <$file>;
        die "another text: $text" if $text ne "RPUSH leak $number\r\n";
        close $file;
    }
    return connection()->exists('leak');
}

my $redis = connection();
print 'commands ', commands($redis, 100), "\n";
print 'pipeline ', pipeline($redis), "\n";
print 'large ',    large($redis),    "\n";
print 'asked ', ask($redis, 'check'), "\n";
messages($redis);
print 'parent ', commands($redis, 50), ' ', ask($redis, 'check'), "\n";
for my $what ('kill', 'restart') {
    print "$what ", ask($redis, $what), ' ', commands($redis, 50), ' ', ask($redis, 'check'), "\n";
}
print 'file ', files(), "\n";
$SIG{TERM} = sub { print "stopped\n"; exit 0 };
ask($redis, 'terminate');
