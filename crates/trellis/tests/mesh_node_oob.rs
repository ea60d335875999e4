//! Two `trellis mesh-node`, a provisioner and a device, with a person who sees both: each way to authenticate.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod by_hand;

use by_hand::Node;
use serde_json::{Value, json};
use tempfile::TempDir;

const UUID: &str = "70cf7c9732a345b691494810d2e9cbf4";

/// A provisioner with a network of its own, and where devices find it.
struct Room {
    folder: TempDir,
    provisioner: Node,
}

impl Room {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut provisioner = Self::start_provisioner(&folder);
        provisioner.hear("unprovisioned");
        provisioner.say("create 00112233445566778899aabbccddeeff 0001");
        provisioner.hear("provisioned");
        Self { folder, provisioner }
    }

    fn path(folder: &TempDir, name: &str) -> String {
        folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn start_provisioner(folder: &TempDir) -> Node {
        let bearer = format!("unix-listen:{}", Self::path(folder, "air"));
        Node::start(["--bearer", &bearer, "--data-dir", &Self::path(folder, "provisioner")])
    }

    /// A device, and what it says of itself.
    fn device(&self, arguments: &[&str]) -> (Node, Value) {
        let bearer = format!("unix:{}", Self::path(&self.folder, "air"));
        let mut device = Node::start([&["--bearer", &bearer, "--uuid", UUID][..], arguments].concat());
        let said = device.hear("unprovisioned");
        (device, said)
    }

    fn provision(&mut self, at: &str, how: &str) {
        self.provisioner.say(&format!("provision {UUID} {at} {how}"));
    }

    fn complaint(&mut self) -> String {
        self.provisioner.have_heard("error")["error"].as_str().unwrap().to_owned()
    }
}

/// What a person reads, to be typed in elsewhere.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[test]
fn a_person_reads_from_the_device_what_the_provisioner_asks_for() {
    let mut room = Room::new();
    let flags = ["--output-oob", "blink,beep,vibrate,number,string", "--output-oob-size", "6"];
    for (number, (how, action, size)) in [
        ("output blink", "blink", 1),
        ("output beep:1", "beep", 1),
        ("output vibrate:2", "vibrate", 2),
        ("output number", "number", 6),
        ("output number:3", "number", 3),
        ("output string:5", "string", 5),
    ]
    .into_iter()
    .enumerate()
    {
        let (mut device, _) = room.device(&flags);
        room.provision("next", how);
        let shown = device.hear("show");
        assert_eq!(shown["action"], action, "{how}");
        match action {
            "number" | "string" => assert_eq!(shown["value"].as_str().unwrap().len(), size, "{shown}"),
            _ => assert!((1..10_u64.pow(2)).contains(&shown["value"].as_u64().unwrap()), "{shown}"),
        }
        let asked = room.provisioner.hear("enter");
        assert_eq!(asked, json!({"event": "enter", "action": action, "size": size}));
        room.provisioner.say(&format!("enter {}", text(&shown["value"])));
        let added = room.provisioner.hear("added");
        assert_eq!(added["authenticated"], true, "{how}");
        assert_eq!(added["address"], format!("{:04x}", 2 + number), "each gets its own");
        assert_eq!(device.hear("provisioned")["dev_key"], added["dev_key"]);
        device.have_heard("hide");
        device.quit();
    }
}

#[test]
fn a_person_gives_the_device_what_the_provisioner_shows() {
    let mut room = Room::new();
    for (how, action, size) in [
        ("input push", "push", 1),
        ("input twist:2", "twist", 2),
        ("input number", "number", 4),
        ("input string:8", "string", 8),
    ] {
        let (mut device, _) =
            room.device(&["--input-oob", action, "--input-oob-size", if size == 8 { "8" } else { "4" }]);
        room.provision("next", how);
        let shown = room.provisioner.hear("show");
        assert_eq!(shown["action"], action);
        assert_eq!(device.hear("enter"), json!({"event": "enter", "action": action, "size": size}));
        // What cannot be it is refused, and asked for still.
        device.say("enter 123456789");
        device.hear("error");
        device.say(&format!("enter {}", text(&shown["value"])));
        let added = room.provisioner.hear("added");
        assert_eq!(added["authenticated"], true, "{how}");
        assert_eq!(device.hear("provisioned")["dev_key"], added["dev_key"]);
        device.quit();
    }
}

#[test]
fn a_wrong_value_adds_no_device_and_the_right_one_does_afterwards() {
    let mut room = Room::new();
    let (mut device, _) = room.device(&["--output-oob", "number", "--static-oob", "0102", "--only-oob"]);
    room.provision("0100", "output number:4");
    let shown = device.hear("show")["value"].as_str().unwrap().parse::<u32>().unwrap();
    room.provisioner.hear("enter");
    room.provisioner.say(&format!("enter {:04}", (shown + 1) % 10_000));
    assert_eq!(room.complaint(), "the device gave up: Confirmation Failed");
    device.hear("provisioning_failed");
    // No authentication at all is refused by the device, another static value by both.
    room.provision("0100", "");
    assert_eq!(room.complaint(), "the device does not offer this way to authenticate it");
    device.hear("provisioning_failed");
    room.provision("0100", "static 0103");
    assert_eq!(room.complaint(), "the device gave up: Confirmation Failed");
    device.hear("provisioning_failed");
    // The address was never sent, so that it is free.
    room.provision("0100", "static 0102");
    let added = room.provisioner.hear("added");
    assert_eq!((&added["address"], &added["authenticated"]), (&json!("0100"), &json!(true)));
    device.hear("provisioned");
}

#[test]
fn a_public_key_that_came_another_way_authenticates_the_device_and_stays_its_own() {
    let mut room = Room::new();
    let folder = Room::path(&room.folder, "device");
    let flags = ["--oob-key", "random", "--data-dir", &folder];
    let (device, said) = room.device(&flags);
    device.quit();
    let (mut device, again) = room.device(&flags);
    let key = said["public_key"].as_str().unwrap();
    assert_eq!(again["public_key"], key, "it may be on a label");
    // Somebody else's key.
    let other = "f465e43ff23d3f1b9dc7dfc04da8758184dbc966204796eccf0d6cf5e16500cc\
                 0201d048bcbbd899eeefc424164e33c201c2b010ca6b4d43a8a155cad8ecb279";
    room.provision("next", &format!("key {other}"));
    assert_eq!(room.complaint(), "the device gave up: Confirmation Failed");
    device.hear("provisioning_failed");
    room.provision("next", &format!("key {key}"));
    let capabilities = room.provisioner.hear("capabilities");
    assert_eq!(capabilities["public_key"], true);
    let added = room.provisioner.hear("added");
    assert_eq!(added["authenticated"], true);
    assert_eq!(device.hear("provisioned")["dev_key"], added["dev_key"]);
    device.quit();

    // With a value on top, and a key that is given: the device of the specification's sample data.
    let private = "529aa0670d72cd6497502ed473502b037e8803b5c60829a5a3caa219505530ba";
    let (mut device, said) = room.device(&["--oob-key", private, "--static-oob", "aabb"]);
    assert_eq!(said["public_key"], other);
    room.provision("next", &format!("static aabb key {other}"));
    assert_eq!(room.provisioner.hear("added")["authenticated"], true);
    device.hear("provisioned");
}

#[test]
fn no_address_is_given_twice_also_after_a_restart() {
    let mut room = Room::new();
    for (at, how) in [("0001", "the provisioner itself"), ("0001", "once more")] {
        room.provision(at, "");
        assert!(room.complaint().contains("not free"), "{how}");
    }
    let (device, _) = room.device(&[]);
    room.provision("0100", "");
    room.provisioner.hear("added");
    device.quit();
    room.provision("0100", "");
    assert!(room.complaint().contains("not free"));

    room.provisioner.process.kill().unwrap();
    room.provisioner.process.wait().unwrap();
    room.provisioner = Room::start_provisioner(&room.folder);
    room.provisioner.hear("restarted");
    room.provision("0100", "");
    assert!(room.complaint().contains("not free"));
    let (mut device, _) = room.device(&[]);
    room.provision("next", "");
    assert_eq!(room.provisioner.hear("added")["address"], "0101");
    device.hear("provisioned");
}

#[test]
fn a_node_is_of_one_network_until_it_is_taken_out() {
    let mut room = Room::new();
    let create = "create ffeeddccbbaa99887766554433221100 0100";
    room.provisioner.say(create);
    assert!(room.complaint().contains("belongs to a network already"));
    room.provisioner.local("8049");
    room.provisioner.hear("reset");
    room.provision("next", "");
    assert!(room.complaint().contains("belongs to no network"));
    room.provisioner.say(create);
    assert_eq!(room.provisioner.hear("provisioned")["address"], "0100");
    // What was given was given in the other network.
    let (_device, _) = room.device(&[]);
    room.provision("0001", "");
    assert_eq!(room.provisioner.hear("added")["address"], "0001");
}

#[test]
fn either_side_can_call_it_off() {
    let mut room = Room::new();
    let (mut device, _) = room.device(&["--output-oob", "string"]);
    room.provision("next", "output string");
    device.hear("show");
    // There is one at a time.
    room.provision("next", "");
    assert!(room.complaint().contains("another device is being provisioned"));
    device.say("cancel");
    device.hear("hide");
    assert_eq!(room.complaint(), "the device gave up: Unexpected Error");
    device.have_heard("provisioning_failed");

    room.provision("next", "output string");
    device.hear("show");
    room.provisioner.hear("enter");
    room.provisioner.say("cancel");
    device.hear("hide");
    device.hear("provisioning_failed");
    assert_eq!(room.complaint(), "it was called off");
    room.provision("next", "");
    room.provisioner.hear("added");
}

#[test]
fn flags_and_commands_that_authenticate_nobody_are_refused() {
    let refused = |arguments: &[&str]| {
        let program = std::process::Command::new(env!("CARGO_BIN_EXE_trellis"))
            .args([&["mesh-node", "--bearer", "sim:0"], arguments].concat())
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        assert!(!program.status.success(), "{arguments:?}");
        String::from_utf8(program.stderr).unwrap()
    };
    assert!(refused(&["--only-oob"]).contains("--only-oob needs a way"));
    assert!(refused(&["--static-oob", ""]).contains("authenticates nobody"));
    assert!(refused(&["--static-oob", "000000"]).contains("authenticates nobody"));
    assert!(refused(&["--static-oob", &"11".repeat(33)]).contains("at most 32 octets"));
    assert!(refused(&["--output-oob", "shout"]).contains("blink"));
    // Above half of the order of the curve: the specification's certificate sample.
    let above = "9617e6009d5c99fce7723f38fcc1dc439b2df216911c8b63eb5cc526fdf92a69";
    assert!(refused(&["--oob-key", above]).contains("half of the order"));

    let mut room = Room::new();
    for how in ["static 00", "output shout", "output number:9", "input number:0", "key 00", "please"] {
        room.provision("next", how);
        room.complaint();
    }
}
