//! A moved connection is the same client: id, user, database, name, protocol.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use redis::{Commands as _, cmd};
use shm_fifo_redis_client::Client;
use support::{TestServer, Wire, wait_until};

/// What `CLIENT INFO` says of those `fields`.
fn facts(wire: &mut Wire, fields: &[&str]) -> Vec<String> {
    let info = wire.ask("CLIENT INFO");
    let words: Vec<&str> = info.split_ascii_whitespace().collect();
    let value_of = |field: &&str| {
        let found =
            words.iter().find(|word| word.split_once('=').is_some_and(|(name, _)| name == *field));
        (*found.unwrap_or_else(|| panic!("no {field} in {info}"))).to_owned()
    };
    fields.iter().map(value_of).collect()
}

const WHO: [&str; 8] = ["id", "addr", "laddr", "fd", "name", "db", "user", "flags"];

#[test]
fn id_user_database_and_name_survive_the_move() {
    let server = TestServer::start();
    server.ask("ACL SETUSER alice on >secret ~* &* +@all");
    let mut plain = server.plain();
    for command in ["AUTH alice secret", "SELECT 7", "CLIENT SETNAME worker-1"] {
        assert_eq!(plain.ask(command), "+OK\r\n");
    }
    let before = facts(&mut plain, &WHO);

    let mut shm = plain.into_shm();

    assert!(shm.is_shm());
    assert_eq!(facts(&mut shm, &WHO), before);
    assert_eq!(shm.ask("ACL WHOAMI"), "$5\r\nalice\r\n");
    shm.ask("SET where here");
    assert_eq!(server.ask("GET where"), "$-1\r\n");
    server.ask("SELECT 7");
    assert_eq!(server.ask("GET where"), "$4\r\nhere\r\n");
}

#[test]
fn a_user_whose_name_is_any_bytes_can_move() {
    const NAME: &[u8] = b"\xFF\x80user";
    let server = TestServer::start();
    server.ask_words(&[b"ACL", b"SETUSER", NAME, b"on", b">secret", b"~*", b"+@all"]);
    let mut plain = server.plain();
    assert_eq!(plain.ask_words(&[b"AUTH", NAME, b"secret"]), b"+OK\r\n");

    let mut shm = plain.into_shm();

    assert_eq!(shm.ask_words(&[b"ACL", b"WHOAMI"]), [b"$6\r\n", NAME, b"\r\n"].concat());
}

#[test]
fn a_tcp_connection_stays_the_same_client_too() {
    let server = TestServer::start();
    let mut tcp = server.tcp();
    tcp.ask("SELECT 3");
    let before = facts(&mut tcp, &WHO);

    let mut shm = tcp.into_shm();

    assert_eq!(facts(&mut shm, &WHO), before);
}

#[test]
fn select_and_auth_work_after_the_move() {
    let server = TestServer::start();
    server.ask("ACL SETUSER alice on >secret ~mine:* +@all");
    let mut shm = server.shm();

    assert_eq!(shm.ask("SELECT 2"), "+OK\r\n");
    assert!(shm.ask("AUTH alice wrong").starts_with("-WRONGPASS"));
    assert_eq!(shm.ask("AUTH alice secret"), "+OK\r\n");

    assert_eq!(facts(&mut shm, &["db", "user"]), ["db=2", "user=alice"]);
    assert_eq!(shm.ask("SET mine:key 1"), "+OK\r\n");
    assert!(shm.ask("SET yours:key 1").starts_with("-NOPERM"));
}

#[test]
fn addresses_say_user_password_and_database() {
    let server = TestServer::start();
    server.ask("ACL SETUSER alice on >p@ss ~* +@all");
    let mut connection = server.connection_with("&db=5&user=alice&pass=p@ss");

    let who: String = cmd("ACL").arg("WHOAMI").query(&mut connection).unwrap();
    let _: () = connection.set("key", 1).unwrap();

    assert_eq!(who, "alice");
    assert!(server.info_text("db5").starts_with("keys=1,"));
}

#[test]
fn a_password_is_asked_for_over_tcp_as_well() {
    let server = TestServer::start();
    server.ask("CONFIG SET requirepass secret");
    let open = |password: &str| {
        let address = format!("redis+shm://:{password}@127.0.0.1:{}?shm=require", server.port());
        Client::open(address.as_str()).unwrap().get_connection()
    };

    assert!(open("wrong").unwrap_err().to_string().contains("password"));
    let pong: String = cmd("PING").query(&mut open("secret").unwrap()).unwrap();
    assert_eq!(pong, "PONG");
}

#[test]
fn rights_taken_away_are_gone_at_once() {
    let server = TestServer::start();
    server.ask("ACL SETUSER alice on nopass ~* +@all");
    let mut shm = server.plain();
    shm.ask("AUTH alice any");
    let mut shm = shm.into_shm();
    assert_eq!(shm.ask("SET key 1"), "+OK\r\n");

    server.ask("ACL SETUSER alice -set");
    assert!(shm.ask("SET key 2").starts_with("-NOPERM"));

    server.ask("ACL DELUSER alice");
    shm.assert_ended();
    wait_until("the session is gone", || server.holds_no_shared_memory());
}

#[test]
fn resp3_lasts_through_the_move_and_can_begin_after_it() {
    let server = TestServer::start();
    server.ask("HSET hash field value");
    let resp3 = "%1\r\n$5\r\nfield\r\n$5\r\nvalue\r\n";
    let mut before = server.plain();
    before.ask("HELLO 3");
    let mut before = before.into_shm();
    let mut after = server.shm();
    assert_eq!(after.ask("HGETALL hash"), "*2\r\n$5\r\nfield\r\n$5\r\nvalue\r\n");
    assert!(after.ask("HELLO 3").starts_with('%'));

    for shm in [&mut before, &mut after] {
        assert_eq!(shm.ask("HGETALL hash"), resp3);
        assert_eq!(shm.ask("GET nothing"), "_\r\n");
    }

    let mut connection = server.connection_with("&protocol=resp3");
    let value: redis::Value = connection.hgetall("hash").unwrap();
    assert!(matches!(value, redis::Value::Map(_)), "{value:?}");
}

#[test]
fn reset_keeps_the_connection_where_it_is() {
    let server = TestServer::start();
    let mut shm = server.shm();
    let id = shm.id();
    for command in ["SELECT 4", "MULTI"] {
        shm.ask(command);
    }

    assert_eq!(shm.ask("RESET"), "+RESET\r\n");

    assert_eq!(shm.id(), id);
    assert_eq!(facts(&mut shm, &["db"]), ["db=0"]);
    assert_eq!(server.info("shm_sessions"), 1);
}

#[test]
fn quit_is_answered_and_then_the_connection_ends() {
    let server = TestServer::start();
    let mut shm = server.shm();

    assert_eq!(shm.ask("QUIT"), "+OK\r\n");

    shm.assert_ended();
    wait_until("the session is gone", || server.holds_no_shared_memory());
}

#[test]
fn client_list_shows_moved_connections() {
    let server = TestServer::start();
    let mut shm = server.shm();
    let id = shm.id();
    shm.ask("CLIENT SETNAME moved");

    let list = server.ask(&format!("CLIENT LIST ID {id}"));

    assert!(list.contains("name=moved") && list.contains(" cmd=client"), "{list}");
}
