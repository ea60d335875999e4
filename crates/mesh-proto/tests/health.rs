//! The Health Server in a node, and what a Health Client hears of it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/net.rs"]
mod net;

use mesh_proto::access::Element;
use mesh_proto::foundation::HealthServer;
use mesh_proto::keys::MessageKey;
use mesh_proto::node::{Command, Event, OutgoingMessage};
use mesh_proto::upper_transport::Destination;
use mesh_wire::address::Address;
use mesh_wire::foundation::{
    ConfigMessage, FaultStatus, HealthMessage, ModelRef, Publication, PublishDestination, PublishPeriod,
};
use mesh_wire::{CompanyId, ModelId};
use net::{APP, COMPANY, NET, Net, SECOND, Store, app_key, restore, unicast};

fn device() -> Vec<Element> {
    let test = Box::new(|number| if number == 3 { vec![5] } else { Vec::new() });
    vec![Element::new(0).with_server(HealthServer::new(COMPANY, vec![0, 3], test))]
}

/// A client, and a device whose test 3 finds fault 0x05.
fn network() -> Net {
    let mut net = Net::new(2);
    let now = net.now;
    let client = Element::new(0).with_host(ModelId::HEALTH_CLIENT, &HealthMessage::CLIENT_OPCODES);
    net.nodes[0] = restore(now, 1, vec![client], &Store::new());
    net.nodes[1] = restore(now, 2, device(), &Store::new());
    for (index, model) in [(0, ModelId::HEALTH_CLIENT), (1, ModelId::HEALTH_SERVER)] {
        net.configure(index, ConfigMessage::AppKeyAdd { net_key_index: NET, index: APP, key: app_key(1) });
        let model = ModelRef { element: net.nodes[index].address(), model };
        net.configure(index, ConfigMessage::ModelAppBind { index: APP, model });
    }
    net
}

fn heard(net: &mut Net) -> Vec<HealthMessage> {
    let events = std::mem::take(&mut net.events);
    let message = |(_, event)| match event {
        Event::Message(message) => HealthMessage::decode(message.opcode, &message.parameters).ok(),
        _ => None,
    };
    events.into_iter().filter_map(message).collect()
}

fn ask(net: &mut Net, message: &HealthMessage) -> Vec<HealthMessage> {
    net.events.clear();
    let message = OutgoingMessage {
        element: 0,
        destination: Destination::Address(Address::from(2)),
        key: MessageKey::App(APP),
        ttl: None,
        payload: message.encode(),
        segmented: false,
    };
    net.command(0, Command::Send(message));
    net.run(SECOND);
    heard(net)
}

fn status(test_id: u8, faults: &[u8]) -> FaultStatus {
    FaultStatus { test_id, company: COMPANY, faults: faults.to_vec() }
}

#[test]
fn tests_are_run_and_faults_kept_until_they_are_cleared() {
    let mut net = network();
    let company = COMPANY;
    let test = |test_id, acknowledged| HealthMessage::FaultTest { test_id, company, acknowledged };
    let registered = |test_id, faults: &[u8]| vec![HealthMessage::FaultStatus(status(test_id, faults))];
    assert_eq!(ask(&mut net, &HealthMessage::FaultGet { company }), registered(0, &[]));
    assert_eq!(ask(&mut net, &test(3, true)), registered(3, &[5]));
    assert_eq!(ask(&mut net, &test(0, false)), [], "not acknowledged");
    assert_eq!(ask(&mut net, &HealthMessage::FaultGet { company }), registered(0, &[5]));
    // What is asked of another company, or for a test that does not exist, is ignored.
    let other = CompanyId(1);
    assert_eq!(ask(&mut net, &HealthMessage::FaultGet { company: other }), []);
    assert_eq!(ask(&mut net, &test(9, true)), []);
    let clear = HealthMessage::FaultClear { company, acknowledged: true };
    assert_eq!(ask(&mut net, &clear), registered(0, &[]));
}

#[test]
fn attention_counts_down_and_the_period_is_a_setting() {
    let mut net = network();
    let set = HealthMessage::AttentionSet { attention_s: 5, acknowledged: true };
    assert_eq!(ask(&mut net, &set), [HealthMessage::AttentionStatus { attention_s: 5 }]);
    let is_on = |net: &Net| net.nodes[1].server::<HealthServer>(0).unwrap().is_drawing_attention(net.now);
    assert!(is_on(&net));
    net.run(2 * SECOND);
    let left = ask(&mut net, &HealthMessage::AttentionGet);
    assert!(matches!(left[..], [HealthMessage::AttentionStatus { attention_s: 2 }]), "{left:?}");
    net.run(2 * SECOND);
    assert!(!is_on(&net));
    let set = HealthMessage::PeriodSet { fast_period_divisor: 3, acknowledged: true };
    assert_eq!(ask(&mut net, &set), [HealthMessage::PeriodStatus { fast_period_divisor: 3 }]);
    assert_eq!(
        ask(&mut net, &HealthMessage::PeriodGet),
        [HealthMessage::PeriodStatus { fast_period_divisor: 3 }]
    );
}

#[test]
fn faults_are_published_at_once_and_faster_while_they_last() {
    let mut net = network();
    let model = ModelRef { element: unicast(2), model: ModelId::HEALTH_SERVER };
    let publication = Publication {
        destination: PublishDestination::Address(Address::from(1)),
        app_key_index: APP,
        // 8 seconds.
        period: PublishPeriod(0x40 | 8),
        ..Publication::NONE
    };
    net.configure(1, ConfigMessage::ModelPublicationSet { publication, model });
    ask(&mut net, &HealthMessage::PeriodSet { fast_period_divisor: 3, acknowledged: false });
    net.run(80 * SECOND);
    let calm = heard(&mut net);
    assert!((9..=11).contains(&calm.len()) && calm[0] == HealthMessage::CurrentStatus(status(0, &[])));
    let now = net.now;
    net.nodes[1].with_server(now, 0, |server: &mut HealthServer, context| server.set_fault(5, true, context));
    net.run(SECOND / 2);
    assert!(heard(&mut net).contains(&HealthMessage::CurrentStatus(status(0, &[5]))), "at once");
    net.run(20 * SECOND);
    assert!((18..=21).contains(&heard(&mut net).len()), "every second");
    let now = net.now;
    net.nodes[1]
        .with_server(now, 0, |server: &mut HealthServer, context| server.set_fault(5, false, context));
    net.run(SECOND);
    heard(&mut net);
    net.run(80 * SECOND);
    assert!((9..=11).contains(&heard(&mut net).len()), "and slowly again");
}

/// What a Health Server has registered and was told outlasts a loss of power; what is now, and passes, does not.
#[test]
fn registered_faults_and_the_divisor_outlast_a_restart() {
    let mut net = network();
    let company = COMPANY;
    ask(&mut net, &HealthMessage::FaultTest { test_id: 3, company, acknowledged: false });
    ask(&mut net, &HealthMessage::PeriodSet { fast_period_divisor: 7, acknowledged: false });
    ask(&mut net, &HealthMessage::AttentionSet { attention_s: 200, acknowledged: false });
    let now = net.now;
    net.nodes[1].with_server(now, 0, |server: &mut HealthServer, context| server.set_fault(9, true, context));
    net.store(1);
    net.nodes[1] = restore(now, 2, device(), &net.stores[1]);
    let registered = HealthMessage::FaultStatus(status(3, &[5, 9]));
    assert_eq!(ask(&mut net, &HealthMessage::FaultGet { company }), [registered]);
    let divisor = HealthMessage::PeriodStatus { fast_period_divisor: 7 };
    assert_eq!(ask(&mut net, &HealthMessage::PeriodGet), [divisor]);
    let attention = HealthMessage::AttentionStatus { attention_s: 0 };
    assert_eq!(ask(&mut net, &HealthMessage::AttentionGet), [attention]);
    assert_eq!(
        net.nodes[1].server::<HealthServer>(0).unwrap().faults().count(),
        0,
        "the device finds them anew"
    );
    // Cleared without an answer, and cleared for good.
    assert_eq!(ask(&mut net, &HealthMessage::FaultClear { company, acknowledged: false }), []);
    net.store(1);
    net.nodes[1] = restore(net.now, 2, device(), &net.stores[1]);
    let registered = HealthMessage::FaultStatus(status(3, &[]));
    assert_eq!(ask(&mut net, &HealthMessage::FaultGet { company }), [registered]);
}
