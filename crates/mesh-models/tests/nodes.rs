//! Nodes that talk to one another: configuration with device keys, lamps with application keys.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::{APP, Medium, add_application, bind, client, configure, dev_key, lamp, node, to, unicast};
use mesh_crypto::LabelUuid;
use mesh_models::generic::OnOffServer;
use mesh_models::messages::{ON_OFF_SERVER, OnOffGet, OnOffSet, OnOffStatus};
use mesh_models::transition::TransitionTime;
use mesh_proto::Discard;
use mesh_proto::access::Element;
use mesh_proto::keys::MessageKey;
use mesh_proto::node::{Command, Event, OutgoingMessage};
use mesh_proto::upper_transport::Destination;
use mesh_wire::KeyIndex;
use mesh_wire::access::Opcode;
use mesh_wire::address::Address;
use mesh_wire::foundation::{
    CompositionData, ConfigMessage, ModelRef, Publication, PublishDestination, PublishPeriod,
    PublishRetransmit, Status, SubscriptionChange,
};

const SECOND: Duration = Duration::from_secs(1);
const APP_KEY: MessageKey = MessageKey::App(APP);

fn model(address: u16) -> ModelRef {
    ModelRef { element: unicast(address), model: ON_OFF_SERVER }
}

fn statuses(messages: &[(Opcode, Vec<u8>, u8)]) -> Vec<OnOffStatus> {
    messages.iter().map(|(_, parameters, _)| OnOffStatus::decode(parameters).unwrap()).collect()
}

#[test]
fn a_command_and_its_confirmation_cross_four_hops() {
    let mut mesh = Medium::chain(vec![client(1), lamp(2), lamp(3), lamp(4), lamp(5)]);
    mesh.send(0, to(5, APP_KEY, OnOffSet::new(true, 1, None).encode()));
    mesh.run(SECOND);
    assert!(mesh.is_on(4) && !mesh.is_on(1));
    let messages = mesh.messages(0);
    assert_eq!(statuses(&messages), [OnOffStatus { present_on_off: true, target: None }]);
    assert_eq!(messages[0].2, common::TTL - 3, "three relays took one each");
    // Each PDU is put on the air by its source and by each relay once: the cache and the TTL end the rest.
    assert_eq!(mesh.transmissions, 2 * 4);
}

/// An answer goes back with TTL 0 to who asked with TTL 0, else with the Default TTL (MshPRT §3.7.3.1).
#[test]
fn an_answer_has_the_default_ttl_or_none() {
    for (asked, answered) in [(0, 0), (2, common::TTL), (100, common::TTL)] {
        let mut mesh = Medium::full(vec![client(1), lamp(2)]);
        let request = to(2, APP_KEY, OnOffGet {}.encode());
        mesh.send(0, OutgoingMessage { ttl: mesh_wire::Ttl::new(asked), ..request });
        mesh.run(SECOND);
        let ttls: Vec<u8> = mesh.messages(0).into_iter().map(|(.., ttl)| ttl).collect();
        assert_eq!(ttls, [answered], "asked with {asked}");
    }
}

#[test]
fn a_repeated_command_is_one_command_but_is_answered_each_time() {
    let mut mesh = Medium::full(vec![client(1), lamp(2)]);
    for on in [true, false] {
        // The same TID: the second is taken for a repetition, whatever it says.
        mesh.send(0, to(2, APP_KEY, OnOffSet::new(on, 9, None).encode()));
        mesh.run(SECOND);
    }
    assert!(mesh.is_on(1));
    assert_eq!(statuses(&mesh.messages(0)).len(), 2);
    mesh.run(6 * SECOND);
    mesh.send(0, to(2, APP_KEY, OnOffSet::new(false, 9, None).encode()));
    mesh.run(SECOND);
    assert!(!mesh.is_on(1), "six seconds later it is a new one");
}

#[test]
fn a_transition_to_on_is_on_at_once_and_one_to_off_is_off_at_its_end() {
    let mut mesh = Medium::full(vec![client(1), lamp(2)]);
    let two_seconds = Some(TransitionTime::at_least(2 * SECOND));
    mesh.send(0, to(2, APP_KEY, OnOffSet::new(true, 1, two_seconds).encode()));
    mesh.run(SECOND / 10);
    assert!(mesh.is_on(1));
    let [status] = statuses(&mesh.messages(0))[..] else { panic!("one status") };
    let (target, remaining) = status.target.unwrap();
    assert!(status.present_on_off && target && remaining.duration().unwrap() <= 2 * SECOND);
    mesh.run(3 * SECOND);
    mesh.send(0, to(2, APP_KEY, OnOffSet::new(false, 2, two_seconds).encode()));
    mesh.run(SECOND);
    assert!(mesh.is_on(1), "still on its way");
    mesh.run(2 * SECOND);
    assert!(!mesh.is_on(1));
}

#[test]
fn a_delay_is_waited_for_and_a_new_command_replaces_it() {
    let mut mesh = Medium::full(vec![client(1), lamp(2)]);
    let delayed = [0x82, 0x02, 1, 1, 0, 200];
    mesh.send(0, to(2, APP_KEY, delayed.to_vec()));
    mesh.run(SECOND / 2);
    assert!(!mesh.is_on(1));
    mesh.run(SECOND);
    assert!(mesh.is_on(1), "200 steps of 5 ms are over");
    mesh.send(0, to(2, APP_KEY, vec![0x82, 0x02, 0, 2, 0, 200]));
    mesh.run(SECOND / 2);
    mesh.send(0, to(2, APP_KEY, OnOffSet::new(true, 3, None).encode()));
    mesh.run(2 * SECOND);
    assert!(mesh.is_on(1));
}

#[test]
fn a_group_and_a_label_reach_their_subscribers_only() {
    let label = LabelUuid(*b"a label of sixte");
    let (mut second, mut third) = (lamp(3), lamp(4));
    let add = SubscriptionChange::Add;
    let group = Address::from(0xc001);
    configure(
        &mut second,
        ConfigMessage::ModelSubscriptionChange { change: add, address: group, model: model(3) },
    );
    configure(
        &mut third,
        ConfigMessage::ModelSubscriptionVirtualAddressChange { change: add, label, model: model(4) },
    );
    let mut mesh = Medium::full(vec![client(1), lamp(2), second, third]);
    mesh.send(0, to(0xc001, APP_KEY, OnOffSet::new(true, 1, None).encode_as(OnOffSet::UNACKNOWLEDGED)));
    mesh.run(SECOND);
    assert_eq!([1, 2, 3].map(|index| mesh.is_on(index)), [false, true, false]);
    let labelled = OutgoingMessage {
        destination: Destination::Label(label),
        ..to(0, APP_KEY, OnOffSet::new(true, 2, None).encode())
    };
    mesh.send(0, labelled);
    mesh.run(SECOND);
    assert_eq!([1, 2, 3].map(|index| mesh.is_on(index)), [false, true, true]);
    assert_eq!(mesh.messages(0).len(), 1, "the labelled one was acknowledged");
    mesh.send(0, to(0xffff, APP_KEY, OnOffSet::new(false, 3, None).encode_as(OnOffSet::UNACKNOWLEDGED)));
    mesh.run(SECOND);
    assert_eq!([1, 2, 3].map(|index| mesh.is_on(index)), [false; 3], "all-nodes reaches primary elements");
}

#[test]
fn a_configuration_client_sets_up_a_lamp_over_the_air() {
    let blank = node(2, vec![Element::new(0x0100).with_server(OnOffServer::new(false))]);
    let mut mesh = Medium::full(vec![client(1), blank]);
    let command = Command::AddDeviceKey { address: unicast(2), elements: 1, key: dev_key(2) };
    mesh.nodes[0].handle_command(mesh.now, command).unwrap();
    let ask = |mesh: &mut Medium, request: &ConfigMessage| {
        mesh.send(0, to(2, MessageKey::RemoteDevice, request.encode()));
        mesh.run(2 * SECOND);
        let mut messages = mesh.messages(0);
        assert_eq!(messages.len(), 1, "{request:?}");
        let (opcode, parameters, _) = messages.remove(0);
        ConfigMessage::decode(opcode, &parameters).unwrap()
    };
    let composition = ask(&mut mesh, &ConfigMessage::CompositionDataGet { page: 255 });
    let ConfigMessage::CompositionDataStatus { page: 0, data } = composition else { panic!("page 0") };
    assert_eq!(&CompositionData::decode(&data).unwrap(), mesh.nodes[1].composition());
    let (net_key_index, index) = (KeyIndex::ZERO, APP);
    let key = common::app_key();
    let added = ask(&mut mesh, &ConfigMessage::AppKeyAdd { net_key_index, index, key });
    assert_eq!(added, ConfigMessage::AppKeyStatus { status: Status::Success, net_key_index, index });
    mesh.send(0, to(2, APP_KEY, OnOffSet::new(true, 1, None).encode()));
    mesh.run(SECOND);
    assert!(!mesh.is_on(1), "the model is not bound to the key yet");
    assert_eq!(mesh.nodes[1].discards().get(Discard::NoModel), 1);
    let bound = ask(&mut mesh, &ConfigMessage::ModelAppBind { index, model: model(2) });
    assert_eq!(bound, ConfigMessage::ModelAppStatus { status: Status::Success, index, model: model(2) });
    mesh.send(0, to(2, APP_KEY, OnOffSet::new(true, 2, None).encode()));
    mesh.run(SECOND);
    assert!(mesh.is_on(1));
}

#[test]
fn a_change_is_published_repeated_and_published_periodically() {
    let mut published = lamp(2);
    let publication = Publication {
        destination: PublishDestination::Address(Address::from(0x0001)),
        app_key_index: APP,
        friendship_credentials: false,
        ttl: None,
        period: PublishPeriod(0x40 | 10),
        retransmit: PublishRetransmit(2),
    };
    configure(&mut published, ConfigMessage::ModelPublicationSet { publication, model: model(2) });
    let mut mesh = Medium::full(vec![client(1), published]);
    let set = OnOffSet::new(true, 1, None).encode_as(OnOffSet::UNACKNOWLEDGED);
    mesh.send(0, to(2, APP_KEY, set));
    mesh.run(SECOND);
    assert_eq!(statuses(&mesh.messages(0)).len(), 3, "once, and twice again");
    mesh.run(10 * SECOND);
    assert_eq!(statuses(&mesh.messages(0)), [OnOffStatus { present_on_off: true, target: None }; 3]);
    let none = Publication::NONE;
    configure(&mut mesh.nodes[1], ConfigMessage::ModelPublicationSet { publication: none, model: model(2) });
    mesh.run(30 * SECOND);
    assert_eq!(mesh.messages(0), []);
}

#[test]
fn a_new_publication_ends_the_repetitions_of_the_one_before() {
    let mut published = lamp(2);
    let publication = Publication {
        destination: PublishDestination::Address(Address::from(0x0001)),
        app_key_index: APP,
        // Twice again, 200 ms apart.
        retransmit: PublishRetransmit(2 | 3 << 3),
        ..Publication { ttl: None, ..Publication::NONE }
    };
    configure(&mut published, ConfigMessage::ModelPublicationSet { publication, model: model(2) });
    let mut mesh = Medium::full(vec![client(1), published]);
    for (is_on, tid) in [(true, 1), (false, 2)] {
        let set = OnOffSet::new(is_on, tid, None).encode_as(OnOffSet::UNACKNOWLEDGED);
        mesh.send(0, to(2, APP_KEY, set));
        mesh.run(Duration::from_millis(300));
    }
    mesh.run(5 * SECOND);
    let told: Vec<bool> = statuses(&mesh.messages(0)).iter().map(|status| status.present_on_off).collect();
    assert_eq!(told, [true, true, false, false, false]);
}

#[test]
fn the_configuration_server_says_what_it_cannot_do() {
    let mut lamp = lamp(2);
    let (net_key_index, index) = (KeyIndex::ZERO, KeyIndex::new(7).unwrap());
    let bind_to = |index, model| ConfigMessage::ModelAppBind { index, model };
    let mut status_of = |request| match configure(&mut lamp, request) {
        ConfigMessage::ModelAppStatus { status, .. }
        | ConfigMessage::AppKeyStatus { status, .. }
        | ConfigMessage::NetKeyStatus { status, .. }
        | ConfigMessage::ModelPublicationStatus { status, .. }
        | ConfigMessage::ModelSubscriptionStatus { status, .. } => status,
        other => panic!("{other:?}"),
    };
    let server = ModelRef { element: unicast(2), model: mesh_wire::ModelId::CONFIGURATION_SERVER };
    let missing = ModelRef { element: unicast(2), model: mesh_wire::ModelId::Sig(0x1234) };
    let other_key = mesh_crypto::AppKey::new([0x99; 16]);
    let publication = Publication {
        app_key_index: index,
        destination: PublishDestination::Address(Address::from(1)),
        ..Publication::NONE
    };
    let cases = [
        (bind_to(index, model(2)), Status::InvalidAppKeyIndex),
        (bind_to(APP, model(3)), Status::InvalidAddress),
        (bind_to(APP, missing), Status::InvalidModel),
        (bind_to(APP, server), Status::CannotBind),
        (ConfigMessage::AppKeyAdd { net_key_index, index: APP, key: common::app_key() }, Status::Success),
        (
            ConfigMessage::AppKeyAdd { net_key_index, index: APP, key: other_key.clone() },
            Status::KeyIndexAlreadyStored,
        ),
        (
            ConfigMessage::AppKeyAdd { net_key_index: index, index, key: other_key },
            Status::InvalidNetKeyIndex,
        ),
        (ConfigMessage::AppKeyDelete { net_key_index, index }, Status::Success),
        (ConfigMessage::NetKeyDelete { index: net_key_index }, Status::CannotRemove),
        (ConfigMessage::NetKeyDelete { index }, Status::Success),
        (ConfigMessage::ModelPublicationSet { publication, model: model(2) }, Status::InvalidAppKeyIndex),
        (ConfigMessage::ModelPublicationSet { publication, model: server }, Status::InvalidPublishParameters),
        (ConfigMessage::ModelSubscriptionDeleteAll { model: server }, Status::NotASubscribeModel),
    ];
    for (request, wanted) in cases {
        let text = format!("{request:?}");
        assert_eq!(status_of(request), wanted, "{text}");
    }
}

#[test]
fn deleting_a_key_ends_what_used_it() {
    let mut lamp = lamp(2);
    let publication = Publication {
        destination: PublishDestination::Address(Address::from(1)),
        app_key_index: APP,
        ..Publication::NONE
    };
    configure(&mut lamp, ConfigMessage::ModelPublicationSet { publication, model: model(2) });
    configure(&mut lamp, ConfigMessage::AppKeyDelete { net_key_index: KeyIndex::ZERO, index: APP });
    let answer = configure(&mut lamp, ConfigMessage::ModelPublicationGet { model: model(2) });
    let ConfigMessage::ModelPublicationStatus { publication, .. } = answer else { panic!("{answer:?}") };
    assert_eq!(publication, Publication::NONE);
    assert_eq!(lamp.bindings(0, ON_OFF_SERVER), []);
    // With the key and the binding back, the lamp works again.
    add_application(&mut lamp);
    bind(&mut lamp, 2, ON_OFF_SERVER);
    let mut mesh = Medium::full(vec![client(1), lamp]);
    mesh.send(0, to(2, APP_KEY, OnOffGet {}.encode()));
    mesh.run(SECOND);
    assert_eq!(mesh.messages(0).len(), 1);
}

#[test]
fn a_reset_node_answers_first_and_is_silent_after() {
    let mut publishing = lamp(2);
    let publication = Publication {
        destination: PublishDestination::Address(Address::from(1)),
        app_key_index: APP,
        period: PublishPeriod(0x40 | 10),
        ..Publication::NONE
    };
    configure(&mut publishing, ConfigMessage::ModelPublicationSet { publication, model: model(2) });
    let mut mesh = Medium::full(vec![client(1), publishing]);
    let command = Command::AddDeviceKey { address: unicast(2), elements: 1, key: dev_key(2) };
    mesh.nodes[0].handle_command(mesh.now, command).unwrap();
    let before = mesh.transmissions;
    mesh.send(0, to(2, MessageKey::RemoteDevice, ConfigMessage::NodeReset.encode()));
    mesh.run(SECOND);
    assert!(mesh.events.contains(&(1, Event::Reset)));
    // The request, its relayed copy, and the answer with its copy.
    assert!(mesh.transmissions >= before + 2);
    let after = mesh.transmissions;
    mesh.send(0, to(2, APP_KEY, OnOffGet {}.encode()));
    mesh.run(SECOND);
    mesh.run(30 * SECOND);
    assert_eq!(mesh.transmissions, after + 1, "the lamp does not even relay, and its publication has ended");
    assert_eq!(mesh.nodes[1].poll_timeout(), None);
}

#[test]
fn members_of_a_group_do_not_publish_all_at_once() {
    let group = Address::from(0xc000);
    let lamps: Vec<_> = (2..12)
        .map(|address| {
            let mut lamp = lamp(address);
            let model = model(address);
            let change = SubscriptionChange::Add;
            configure(&mut lamp, ConfigMessage::ModelSubscriptionChange { change, address: group, model });
            let publication = Publication {
                destination: PublishDestination::Address(Address::from(1)),
                app_key_index: APP,
                friendship_credentials: false,
                ttl: None,
                period: PublishPeriod::default(),
                retransmit: PublishRetransmit::default(),
            };
            configure(&mut lamp, ConfigMessage::ModelPublicationSet { publication, model });
            lamp
        })
        .collect();
    let mut mesh = Medium::full(std::iter::once(client(1)).chain(lamps).collect());
    mesh.send(0, to(0xc000, APP_KEY, OnOffSet::new(true, 1, None).encode_as(OnOffSet::UNACKNOWLEDGED)));
    let mut heard = Vec::new();
    for _ in 0..25 {
        mesh.run(Duration::from_millis(20));
        heard.push(mesh.messages(0).len());
    }
    assert_eq!(heard.iter().sum::<usize>(), 10, "each says it once: {heard:?}");
    assert!(heard.iter().all(|&count| count <= 4), "spread over half a second: {heard:?}");
    // Nor when they come to the end of the same transition.
    let off = OnOffSet::new(false, 2, Some(TransitionTime::at_least(SECOND)));
    mesh.send(0, to(0xc000, APP_KEY, off.encode_as(OnOffSet::UNACKNOWLEDGED)));
    mesh.run(SECOND * 9 / 10);
    mesh.messages(0);
    let mut heard = Vec::new();
    for _ in 0..40 {
        mesh.run(Duration::from_millis(20));
        heard.push(mesh.messages(0).len());
    }
    assert_eq!(heard.iter().sum::<usize>(), 10, "each says it once: {heard:?}");
    assert!(heard.iter().all(|&count| count <= 4), "spread over half a second: {heard:?}");
}
