//! Who may do what: passwords, users, rules.

use crate::normalise::{ACL_LOG, HELLO};
use crate::stage::compare;

#[test]
fn who_is_not_authenticated() {
    compare(|stage| {
        let mut a = stage.client("a");
        stage.aside("CONFIG SET requirepass secret");
        a.ask("GET x");
        a.ask("RESET");
        for command in
            ["GET x", "SHM.LIST", "MULTI", "HELLO 3", "AUTH wrong", "AUTH default wrong", "AUTH"]
        {
            a.ask(command);
        }
        a.ask_as(&HELLO, "HELLO 3 AUTH default secret");
        a.ask("GET x");
        a.ask("RESET");
        a.ask("AUTH secret");
        a.ask("GET x");
    });
}

#[test]
fn who_lacks_a_permission() {
    compare(|stage| {
        stage.aside("ACL SETUSER alice on >pw ~own:* &own.* +@all -@dangerous -set");
        stage.aside("ACL LOG RESET");
        let mut a = stage.client("a");
        for command in [
            "AUTH alice pw",
            "ACL WHOAMI",
            "GET own:x",
            "GET other",
            "SET own:x 1",
            "MGET own:x other",
            "PUBLISH own.a x",
            "PUBLISH other x",
            "KEYS *",
            "ACL LIST",
            "MULTI",
            "GET own:x",
            "GET other",
            "EXEC",
            "SUBSCRIBE other",
        ] {
            a.ask(command);
        }
        a.ask_words(&["EVAL", "return redis.call('GET', KEYS[1])", "1", "other"]);
        a.ask_words(&["EVAL", "return redis.call('SET', KEYS[1], '1')", "1", "own:x"]);
        let mut b = stage.client("b");
        b.ask_as(&ACL_LOG, "ACL LOG");
    });
}

#[test]
fn a_user_that_is_changed_or_deleted() {
    compare(|stage| {
        stage.aside("ACL SETUSER alice on >pw allkeys allchannels +@all");
        let (mut a, mut b) = (stage.client("a"), stage.client("b"));
        for client in [&mut a, &mut b] {
            client.ask("AUTH alice pw");
            client.ask("SUBSCRIBE news");
        }
        b.ask("UNSUBSCRIBE news");
        stage.aside("ACL SETUSER alice resetchannels &other");
        a.take_end();
        b.ask("PING");
        stage.aside("ACL DELUSER alice");
        b.take_end();
    });
}
