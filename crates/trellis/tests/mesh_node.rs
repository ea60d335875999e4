//! `trellis mesh-node` as somebody at a keyboard uses it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod by_hand;

use std::path::Path;
use std::process::{Command, Stdio};

use by_hand::Node;

fn start(data_dir: &Path) -> Node {
    Node::start(["--bearer", "sim:1", "--data-dir", data_dir.to_str().unwrap()])
}

#[test]
fn a_node_provisions_a_lamp_in_simulated_air_and_goes_on_after_being_killed() {
    let folder = std::env::temp_dir().join(format!("trellis-mesh-node-{}", std::process::id()));
    let mut node = start(&folder);
    let uuid = node.hear("unprovisioned")["uuid"].clone();
    node.say("create 00112233445566778899aabbccddeeff 0001");
    node.hear("provisioned");
    let device = node.have_heard("device")["uuid"].as_str().unwrap().to_owned();
    node.say(&format!("provision {device} 0100"));
    assert_eq!(node.hear("added")["address"], "0100");
    // AppKey Add on both, Model App Bind on the lamp, Generic OnOff Set.
    assert_eq!(node.local("00000000ffeeddccbbaa99887766554433221100"), "800300000000");
    let status = node.send("dev", "00000000ffeeddccbbaa99887766554433221100", "message");
    assert_eq!(status["payload"], "800300000000");
    assert_eq!(node.send("dev", "803d000100000010", "message")["payload"], "803e00000100000010");
    assert_eq!(node.send("app:0", "82020101", "lamp")["on"], true);
    node.process.kill().unwrap();
    node.process.wait().unwrap();

    let mut again = start(&folder);
    assert_eq!(again.hear("restarted")["address"], "0001");
    // NetKey List and AppKey List.
    assert_eq!(again.local("8042"), "80430000");
    assert_eq!(again.local("80010000"), "80020000000000");
    // It is in the network with the device key of the lamp, which in this air is a new device.
    again.say("send 0100 dev 8008ff");
    again.hear("done");
    // A reset empties the directory, but for who it is.
    again.local("8049");
    again.hear("reset");
    again.say("quit");
    again.process.wait().unwrap();
    let mut third = start(&folder);
    assert_eq!(third.hear("unprovisioned")["uuid"], uuid);
    third.say("quit");
    third.process.wait().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn times_that_allow_no_friendship_are_refused_in_a_sentence() {
    for (flag, time, sentence) in [
        ("--receive-delay", "9ms", "a Receive Delay of 9ms cannot be asked for; it is 10 to 255 ms"),
        ("--poll-timeout", "96h", "a Poll Timeout of 345600s cannot be asked for"),
        ("--poll-interval", "60s", "a node that asks every 60s loses a Friend with a Poll Timeout of 60s"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trellis"));
        command.args(["mesh-node", "--bearer", "sim:0", "--features", "low-power", flag, time]);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(!output.status.success(), "{flag}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(sentence) && text.trim().lines().count() == 1, "{text}");
    }
}
