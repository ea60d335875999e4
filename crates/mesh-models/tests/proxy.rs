//! A client that has no radio for advertisements, as a phone, commands a lamp through a proxy, several hops away.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::{APP, Medium, add_application, client, lamp, to};
use mesh_models::messages::{OnOffSet, OnOffStatus};
use mesh_proto::keys::MessageKey;
use mesh_proto::proxy::{ConnectionId, ProxyOutput, ProxyRole};

const LINK: ConnectionId = ConnectionId(1);

#[test]
fn a_phone_switches_a_lamp_four_hops_behind_its_proxy() {
    let mut phone = client(0x50);
    let mut entrance = common::proxy(1);
    add_application(&mut entrance);
    let mut mesh = Medium::chain(vec![entrance, lamp(2), lamp(3), lamp(4), lamp(5)]);
    let now = mesh.now;
    // ATT_MTU 23, the smallest: each network PDU takes two Proxy PDUs.
    phone.handle_proxy_connected(now, LINK, ProxyRole::Client, 20);
    mesh.nodes[0].handle_proxy_connected(now, LINK, ProxyRole::Server, 20);
    let set = OnOffSet::new(true, 1, None).encode();
    let message = to(5, MessageKey::App(APP), set);
    phone.handle_command(now, mesh_proto::node::Command::Send(message)).unwrap();
    let mut written = 0;
    for _ in 0..40 {
        while let Some(ProxyOutput::Pdu { octets, .. }) = phone.poll_proxy() {
            assert!(octets.len() <= 20);
            written += 1;
            let now = mesh.now;
            mesh.nodes[0].handle_proxy_pdu(now, LINK, &octets);
        }
        mesh.run(Duration::from_millis(50));
        while let Some(ProxyOutput::Pdu { octets, .. }) = mesh.nodes[0].poll_proxy() {
            phone.handle_proxy_pdu(mesh.now, LINK, &octets);
        }
        phone.handle_timeout(mesh.now);
    }
    assert!(mesh.is_on(4) && !mesh.is_on(1));
    assert_eq!(written, 4, "the command and the filter, in two parts each");
    let statuses: Vec<OnOffStatus> = std::iter::from_fn(|| phone.poll_event())
        .filter_map(|event| match event {
            mesh_proto::node::Event::Message(message) => {
                Some(OnOffStatus::decode(&message.parameters).unwrap())
            }
            _ => None,
        })
        .collect();
    assert_eq!(statuses, [OnOffStatus { present_on_off: true, target: None }]);
}
