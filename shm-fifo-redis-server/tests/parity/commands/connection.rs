//! Transactions, and what a connection asks about itself and the server.

pub(super) const TRANSACTIONS: &[&str] =
    &["MULTI", "MULTI", "EXEC", "EXEC", "DISCARD", "WATCH (<any>)+", "UNWATCH"];

pub(super) const SERVER: &[&str] = &[
    "PING [<value>|]",
    "ECHO <value>",
    "SELECT [0|0|1|2|99|x]",
    "SELECT 0",
    "SWAPDB 0 <small>",
    "HELLO [2|3|3|4|x]",
    "HELLO 3 SETNAME me",
    // Of no other user: Redis 8.0 and Valkey 8.1 do not answer each time that is refused.
    "AUTH <text>",
    "RESET",
    "CLIENT [SETNAME [me|you]|GETNAME|HELP]",
    "CLIENT SETINFO [LIB-NAME|LIB-VER|JUNK] <text>",
    "CLIENT [NO-EVICT|NO-TOUCH] [ON|OFF|JUNK]",
    "CLIENT KILL ID 999999999",
    "CLIENT UNBLOCK 999999999 [TIMEOUT|ERROR|JUNK]",
    "CLIENT UNPAUSE",
    "CLIENT LIST ID 999999999",
    "CLIENT [TRACKINGINFO|GETREDIR|CACHING YES]",
    "DEBUG PROTOCOL <protocol-type>",
    "DEBUG PROTOCOL <protocol-type>",
    "COMMAND COUNT",
    "COMMAND [INFO|DOCS] [get|set|nothing] [eval|zadd]",
    "COMMAND GETKEYS [SORT <any> STORE <any>|EVAL x 2 a b|GET|MSET a b c d]",
    "COMMAND LIST FILTERBY ACLCAT geo",
    "CONFIG GET [*max*|save|nothing|*]",
    "CONFIG SET [nothing 1|maxmemory x|hz]",
    "ACL [WHOAMI|CAT|CAT geo|CAT x|LIST|USERS|GETUSER default|GETUSER nobody|HELP]",
    "ACL DRYRUN default GET <any>",
    "LATENCY [HISTORY nothing|RESET|HELP|DOCTOR]",
    "MODULE LIST",
    "MEMORY [HELP|JUNK]",
    "WAIT 0 0",
    "PUBLISH nobody <text>",
    "PUBSUB [CHANNELS|SHARDCHANNELS] news.a",
    "PUBSUB [NUMSUB c|NUMPAT|JUNK]",
    // Not CLUSTER INFO, which may become INFO.
    "CLUSTER [SLOTS|NODES|KEYSLOT x]",
    "[READONLY|READWRITE|ASKING]",
    "REPLCONF junk",
    "[NOSUCH|GETT|QUITT] <text> <value>",
    // Not SYNC, which may become that command: the connection of a replica.
    "FLUSHDB [ASYNC|JUNK]",
    "SHM.OPEN [1|x|2 x y z]",
    "SHM.START",
];

pub(super) const REPLY_MODES: &[&str] = &[
    "CLIENT REPLY SKIP",
    "CLIENT REPLY SKIP",
    "CLIENT REPLY OFF",
    "CLIENT REPLY ON",
    "CLIENT REPLY JUNK",
];

pub(super) const PUBSUB: &[&str] = &[
    "SUBSCRIBE (<channel>)+",
    "PSUBSCRIBE (<channels>)+",
    "SSUBSCRIBE (<channel>)+",
    "UNSUBSCRIBE [<channel>|]",
    "PUNSUBSCRIBE [<channels>|]",
    "SUNSUBSCRIBE [<channel>|]",
    "PUBLISH <channel> <value>",
    "PUBLISH <channel> <text>",
    "SPUBLISH <channel> <value>",
    "PUBSUB [NUMSUB <channel> <channel>|NUMPAT|SHARDNUMSUB <channel>]",
    "PING <text>",
];

/// Without BCAST: those messages are sent once in a turn of the event loop, and how
/// many commands that has is nobody's promise.
pub(super) const TRACKING: &[&str] = &[
    "CLIENT TRACKING ON [NOLOOP|] [OPTIN|OPTOUT|]",
    "CLIENT TRACKING ON [NOLOOP|]",
    "CLIENT TRACKING ON REDIRECT 999999999",
    "CLIENT TRACKING ON PREFIX x",
    "CLIENT TRACKING OFF",
    "CLIENT CACHING [YES|NO|JUNK]",
    "CLIENT TRACKINGINFO",
    "CLIENT GETREDIR",
    "GET <any>",
    "MGET (<any>)+",
    "SET <any> <text>",
    "DEL (<any>)+",
];
