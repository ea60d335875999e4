//! A wall switch of two elements and the lamps that its rockers reach.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::{APP, Medium, add_application, bind, configure, node, unicast};
use mesh_models::client::opcodes;
use mesh_models::lighting::{Light, LightKind};
use mesh_models::messages::{LEVEL_SERVER, ON_OFF_CLIENT, ON_OFF_SERVER};
use mesh_models::switch::{SWITCH_MODELS, Switch};
use mesh_proto::access::Element;
use mesh_proto::node::{Command, CommandError, Node};
use mesh_wire::address::Address;
use mesh_wire::foundation::{
    ConfigMessage, ModelRef, Publication, PublishDestination, PublishPeriod, PublishRetransmit,
    SubscriptionChange,
};

const SECOND: Duration = Duration::from_secs(1);

fn group(element: u8) -> Address {
    Address::from(0xc000 + u16::from(element))
}

fn switch() -> Node {
    let element = || SWITCH_MODELS.into_iter().fold(Element::new(0), |x, id| x.with_host(id, opcodes(id)));
    let mut switch = node(1, vec![element(), element()]);
    add_application(&mut switch);
    for (index, address) in [(0, 1), (1, 2)] {
        for model in SWITCH_MODELS {
            bind(&mut switch, address, model);
            let publication = Publication {
                destination: PublishDestination::Address(group(index)),
                app_key_index: APP,
                period: PublishPeriod(0),
                // Twice again, 50 ms apart: a lamp must not take that for three presses.
                retransmit: PublishRetransmit(2),
                ..Publication::NONE
            };
            let model = ModelRef { element: unicast(address), model };
            configure(&mut switch, ConfigMessage::ModelPublicationSet { publication, model });
        }
    }
    switch
}

fn lamp(address: u16, group: Address) -> Node {
    let mut lamp = node(address, vec![Element::new(0).with_server(Light::new(LightKind::Dimmable))]);
    add_application(&mut lamp);
    for model in [ON_OFF_SERVER, LEVEL_SERVER] {
        bind(&mut lamp, address, model);
    }
    let (change, address) = (SubscriptionChange::Add, unicast(address));
    let model = ModelRef { element: address, model: ON_OFF_SERVER };
    configure(&mut lamp, ConfigMessage::ModelSubscriptionChange { change, address: group, model });
    lamp
}

/// A switch, two lamps of its first rocker, and one of its second.
fn home() -> (Medium, [Switch; 2]) {
    let lamps = [(3, 0), (4, 0), (5, 1)].map(|(address, rocker)| lamp(address, group(rocker)));
    (Medium::full([switch()].into_iter().chain(lamps).collect()), [Switch::new(0), Switch::new(1)])
}

fn press(home: &mut Medium, command: Command) {
    home.nodes[0].handle_command(home.now, command).unwrap();
    home.run(SECOND);
}

fn lightness(home: &Medium) -> [u16; 3] {
    [1, 2, 3].map(|node| home.nodes[node].server::<Light>(0).unwrap().lightness(home.now))
}

#[test]
fn each_rocker_switches_its_own_lamps() {
    let (mut home, [mut left, mut right]) = home();
    press(&mut home, left.on_off(true, None));
    assert_eq!(lightness(&home), [0xffff, 0xffff, 0]);
    press(&mut home, right.level(0, None));
    assert_eq!(lightness(&home), [0xffff, 0xffff, 0x8000]);
    press(&mut home, left.on_off(false, None));
    assert_eq!(lightness(&home), [0, 0, 0x8000]);
}

#[test]
fn a_long_press_dims_until_it_ends() {
    let (mut home, [mut left, _]) = home();
    press(&mut home, left.level(0, None));
    press(&mut home, left.hold(0x1000));
    home.run(SECOND);
    press(&mut home, left.release());
    let [one, other, _] = lightness(&home);
    assert_eq!(one, other);
    assert!((0xa000..0xa100).contains(&one), "{one:x}");
    home.run(10 * SECOND);
    assert_eq!(lightness(&home)[0], one);
}

#[test]
fn a_turn_of_the_dial_makes_up_for_what_was_lost() {
    let (mut home, [mut left, _]) = home();
    press(&mut home, left.level(0, None));
    let now = home.now;
    press(&mut home, left.turn(now, 0x100));
    // Nobody hears the second part.
    let _ = left.turn(now + SECOND, 0x100);
    let now = home.now;
    press(&mut home, left.turn(now, 0x100));
    assert_eq!(lightness(&home)[..2], [0x8300; 2]);
    home.run(10 * SECOND);
    let now = home.now;
    press(&mut home, left.turn(now, -0x300));
    assert_eq!(lightness(&home)[..2], [0x8000; 2]);
}

#[test]
fn what_publishes_nowhere_says_so() {
    let mut lamp = lamp(3, group(0));
    let command = Command::Publish { element: 0, model: ON_OFF_CLIENT, payload: vec![0x82, 0x01] };
    assert_eq!(lamp.handle_command(clock::Instant::ORIGIN, command), Err(CommandError::NoPublication));
}
