//! Client-side caching: who is told what has changed, and when.

use crate::normalise::{HELLO, REDIRECT_ID};
use crate::stage::{Actor, Stage, compare};

fn in_resp3<'s>(stage: &'s Stage, tracking: &str) -> Actor<'s> {
    let mut client = stage.client("a");
    client.ask_as(&HELLO, "HELLO 3");
    client.ask(tracking);
    client
}

#[test]
fn keys_that_were_read() {
    compare(|stage| {
        let mut a = in_resp3(stage, "CLIENT TRACKING ON");
        for command in ["GET x", "MGET x y", "HGETALL h", "CLIENT TRACKINGINFO"] {
            a.ask(command);
        }
        for command in ["SET x 1", "SET x 2", "DEL h", "HSET h f v", "FLUSHALL"] {
            stage.aside(command);
        }
        a.take_times(3);
        a.ask("GET x");
        // One's own change: the message, and the reply before it or behind it.
        a.ask("SET x 3");
        a.take();
        a.ask("CLIENT TRACKING OFF");
        stage.aside("SET x 4");
        a.ask("GET x");
    });
}

#[test]
fn opting_in_and_out_and_no_loop() {
    compare(|stage| {
        let mut a = in_resp3(stage, "CLIENT TRACKING ON OPTIN NOLOOP");
        for command in ["GET x", "CLIENT CACHING YES", "GET y", "GET z", "CLIENT TRACKINGINFO"] {
            a.ask(command);
        }
        for command in ["SET x 1", "SET y 1", "SET z 1"] {
            stage.aside(command);
        }
        a.take();
        let mut b = in_resp3(stage, "CLIENT TRACKING ON OPTOUT");
        for command in ["GET x", "CLIENT CACHING NO", "GET y", "CLIENT CACHING YES"] {
            b.ask(command);
        }
        stage.aside("MSET x 2 y 2");
        b.take();
        b.ask("CLIENT TRACKING ON BCAST");
        b.ask("CLIENT TRACKING ON OPTIN OPTOUT");
    });
}

#[test]
fn broadcasts() {
    compare(|stage| {
        let mut a = in_resp3(stage, "CLIENT TRACKING ON BCAST PREFIX p: PREFIX q:");
        a.ask("CLIENT TRACKINGINFO");
        for command in ["SET p:1 x", "SET other x", "SET q:1 x", "MSET p:2 x"] {
            stage.aside(command);
        }
        a.take_times(3);
        a.ask("SET p:3 x");
        a.take();
        for command in ["MULTI", "SET p:4 x", "DEL p:4"] {
            a.ask(command);
        }
        a.ask("EXEC");
        a.take();
        let mut b = in_resp3(stage, "CLIENT TRACKING ON BCAST NOLOOP");
        b.ask("SET mine x");
        stage.aside("SET other y");
        b.take();
        b.ask("CLIENT TRACKING ON BCAST PREFIX p PREFIX p:x");
    });
}

#[test]
fn redirected_to_another_connection() {
    compare(|stage| {
        let (mut a, mut b) = (stage.client("a"), stage.client("b"));
        b.ask("SUBSCRIBE __redis__:invalidate");
        a.ask(&format!("CLIENT TRACKING ON REDIRECT {}", b.id));
        a.ask_as(&REDIRECT_ID, "CLIENT TRACKINGINFO");
        a.ask("GET x");
        stage.aside("SET x 1");
        b.take();
        a.ask("GET x");
        a.ask("FLUSHALL");
        b.take();
        a.ask_as(&HELLO, "HELLO 3");
        b.ask("RESET");
        b.send("QUIT");
        b.take_end();
        b.wait_until_gone();
        a.ask("GET x");
        stage.aside("SET x 2");
        a.take_as(&REDIRECT_ID);
        a.ask_as(&REDIRECT_ID, "CLIENT TRACKINGINFO");
    });
}
