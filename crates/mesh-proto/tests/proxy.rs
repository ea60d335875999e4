//! The Proxy protocol (MshPRT §6) between nodes: what a server passes on, what a client is told, and when it ends.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/net.rs"]
mod net;

use std::time::Duration;

use clock::Instant;
use mesh_crypto::NetworkKeys;
use mesh_proto::Discard;
use mesh_proto::friend::FriendSettings;
use mesh_proto::low_power::LowPowerSettings;
use mesh_proto::node::{Command, CommandError, Event, IvUpdateCommand, Node, NodeOptions};
use mesh_proto::proxy::{ConnectionId, MAX_CONNECTIONS, ProxyOutput, ProxyRole};
use mesh_wire::address::{Address, GroupAddress};
use mesh_wire::beacon::Beacon;
use mesh_wire::bearer::proxy::{MessageType, segment};
use mesh_wire::bearer::proxy_service::ProxyIdentification;
use mesh_wire::foundation::{ConfigMessage, FeatureState, Features, HeartbeatPublication};
use mesh_wire::proxy_configuration::{FilterType, ProxyConfiguration, ProxyConfigurationPdu};
use mesh_wire::{IvIndex, KeyIndex, Seq};
use net::{NET, Net, SECOND, elements, net_key, unicast};

/// The smallest ATT_MTU is 23.
const SMALLEST: usize = 20;

const LINK: ConnectionId = ConnectionId(7);

fn proxy(address: u16) -> Node {
    let options = NodeOptions { proxy: true, ..NodeOptions::default() };
    let (provisioned, config) = net::parts(address, elements(), options);
    Node::new(provisioned, config)
}

/// What waits to be done with connections.
fn take(node: &mut Node) -> Vec<ProxyOutput> {
    std::iter::from_fn(|| node.poll_proxy()).collect()
}

fn beacons(output: &[ProxyOutput]) -> Vec<IvIndex> {
    let pdus = output.iter().filter_map(|output| match output {
        ProxyOutput::Pdu { octets, .. } => Some(octets),
        ProxyOutput::Disconnect(_) => None,
    });
    pdus.filter(|pdu| pdu[0] == 1)
        .map(|pdu| match Beacon::decode(&pdu[1..]) {
            Ok(Beacon::SecureNetwork(beacon)) => beacon.iv_index,
            other => panic!("{other:?}"),
        })
        .collect()
}

/// What a client with the address 0x0100 writes.
struct Client {
    seq: u32,
}

impl Client {
    fn ask(&mut self, server: &mut Node, request: &[u8]) -> Option<ProxyConfiguration> {
        self.seq += 1;
        self.ask_again(server, request)
    }

    fn ask_again(&mut self, server: &mut Node, request: &[u8]) -> Option<ProxyConfiguration> {
        let keys = NetworkKeys::flooding(&net_key(1));
        let seq = Seq::new(self.seq).unwrap();
        let pdu = ProxyConfigurationPdu { seq, src: unicast(0x100), message: request.into() };
        let octets = pdu.secure(&keys, IvIndex(5));
        take(server);
        for part in segment(MessageType::ProxyConfiguration, &octets, SMALLEST) {
            server.handle_proxy_pdu(Instant::ORIGIN, LINK, &part);
        }
        let answer: Vec<u8> = (take(server).iter())
            .flat_map(|output| match output {
                ProxyOutput::Pdu { octets, .. } => octets[1..].to_vec(),
                ProxyOutput::Disconnect(_) => panic!("disconnected"),
            })
            .collect();
        let opened = ProxyConfigurationPdu::open(&answer, &keys, IvIndex(5)).ok()?;
        assert_eq!(opened.src, unicast(1), "the server's primary element answers");
        ProxyConfiguration::decode(&opened.message).ok()
    }
}

fn status(filter_type: FilterType, list_size: u16) -> Option<ProxyConfiguration> {
    Some(ProxyConfiguration::FilterStatus { filter_type, list_size })
}

#[test]
fn each_request_is_answered_and_replayed_or_reserved_ones_are_not() {
    let mut server = proxy(1);
    server.handle_proxy_connected(Instant::ORIGIN, LINK, ProxyRole::Server, SMALLEST);
    let mut client = Client { seq: 0 };
    assert_eq!(client.ask(&mut server, &[1, 0xc0, 0, 0xc0, 1]), status(FilterType::AcceptList, 2));
    assert_eq!(client.ask_again(&mut server, &[1, 0xc0, 2]), None);
    assert_eq!(server.discards().get(Discard::Replayed), 1);
    assert_eq!(client.ask(&mut server, &[2, 0xc0, 1]), status(FilterType::AcceptList, 1));
    assert_eq!(client.ask(&mut server, &[0, 1]), status(FilterType::RejectList, 0));
    for ignored in [&[4, 1, 1][..], &[0x3f], &[0, 2], &[1, 0xc0], &[3, 0, 0, 1]] {
        assert_eq!(client.ask(&mut server, ignored), None, "{ignored:?}");
    }
    // The list is the connection's, and ends with it.
    assert_eq!(client.ask(&mut server, &[1, 0xc0, 0]), status(FilterType::RejectList, 1));
    server.handle_proxy_disconnected(LINK);
    server.handle_proxy_connected(Instant::ORIGIN, LINK, ProxyRole::Server, SMALLEST);
    assert_eq!(client.ask(&mut server, &[1]), status(FilterType::AcceptList, 0));
}

#[test]
fn a_client_gets_a_beacon_of_each_subnet_and_of_what_changes() {
    let mut net = Net::new(1);
    net.nodes[0] = proxy(1);
    let second = KeyIndex::new(9).unwrap();
    net.configure(0, ConfigMessage::NetKeyAdd { index: second, key: net_key(2) });
    let now = net.now;
    net.nodes[0].handle_proxy_connected(now, LINK, ProxyRole::Server, 66);
    assert_eq!(beacons(&take(&mut net.nodes[0])), [IvIndex(5); 2]);
    net.run(5 * SECOND);
    assert_eq!(take(&mut net.nodes[0]), [], "nothing new, nothing told");
    net.command(0, Command::IvUpdate(IvUpdateCommand::TestMode(true)));
    net.command(0, Command::IvUpdate(IvUpdateCommand::Start));
    assert_eq!(beacons(&take(&mut net.nodes[0])), [IvIndex(6); 2]);
    net.configure(0, ConfigMessage::NetKeyAdd { index: KeyIndex::new(3).unwrap(), key: net_key(3) });
    assert_eq!(beacons(&take(&mut net.nodes[0])), [IvIndex(6)], "of the new subnet only");
    net.configure(0, ConfigMessage::NetKeyUpdate { index: second, key: net_key(4) });
    net.nodes[0].poll_timeout();
    take(&mut net.nodes[0]);
    let transition = mesh_wire::foundation::KeyRefreshTransition::UseNewKeys;
    net.configure(0, ConfigMessage::KeyRefreshPhaseSet { index: second, transition });
    assert_eq!(beacons(&take(&mut net.nodes[0])), [IvIndex(6)], "the Key Refresh Flag is new");
}

/// A client (node 0) that reaches the others only by its connection to node 1, which is a proxy.
fn behind_proxy() -> Net {
    let mut net = Net::new(3);
    let application = ConfigMessage::AppKeyAdd { net_key_index: NET, index: net::APP, key: net::app_key(1) };
    net.nodes[1] = proxy(2);
    net.configure(1, application);
    let model = mesh_wire::foundation::ModelRef { element: unicast(2), model: net::MODEL };
    net.configure(1, ConfigMessage::ModelAppBind { index: net::APP, model });
    net.hears = |from, to| from != 0 && to != 0;
    let now = net.now;
    net.nodes[0].handle_proxy_connected(now, LINK, ProxyRole::Client, 66);
    net.nodes[1].handle_proxy_connected(now, LINK, ProxyRole::Server, SMALLEST);
    carry(&mut net);
    net
}

/// Carries what waits on the connection, both ways, until there is nothing more.
fn carry(net: &mut Net) {
    loop {
        let mut is_quiet = true;
        for (from, to) in [(0, 1), (1, 0)] {
            net.store(from);
            while let Some(output) = net.nodes[from].poll_proxy() {
                let ProxyOutput::Pdu { octets, .. } = output else { panic!("disconnected") };
                is_quiet = false;
                let now = net.now;
                net.nodes[to].handle_proxy_pdu(now, LINK, &octets);
            }
        }
        if is_quiet {
            return;
        }
    }
}

fn hello(net: &mut Net, from: usize, to: u16, octets: usize) -> Vec<usize> {
    net.events.clear();
    let payload = net::HELLO.with(&vec![7; octets]);
    let message = mesh_proto::node::OutgoingMessage {
        element: 0,
        destination: mesh_proto::upper_transport::Destination::Address(Address::from(to)),
        key: mesh_proto::keys::MessageKey::App(net::APP),
        ttl: None,
        payload,
        segmented: false,
    };
    net.command(from, Command::Send(message));
    for _ in 0..80 {
        carry(net);
        net.run(Duration::from_millis(50));
    }
    let heard = net.events.iter().filter(|(_, event)| matches!(event, Event::Message(_)));
    let mut heard: Vec<usize> = heard.map(|(index, _)| *index).collect();
    heard.sort_unstable();
    heard
}

#[test]
fn a_client_hears_what_is_for_it_and_no_more() {
    let mut net = behind_proxy();
    net.run(SECOND);
    // The client asked by itself for its own address and that of all nodes.
    let filters: Vec<_> = (net.events.iter())
        .filter_map(|(index, event)| match event {
            Event::ProxyFilter { filter_type, list_size, .. } => Some((*index, *filter_type, *list_size)),
            _ => None,
        })
        .collect();
    assert_eq!(filters, [(0, FilterType::AcceptList, 2)]);
    assert_eq!(hello(&mut net, 0, 3, 4), [2], "through the proxy");
    assert_eq!(hello(&mut net, 2, 1, 4), [0], "and back");
    assert_eq!(hello(&mut net, 2, 1, 200), [0], "in segments, which are acknowledged");
    assert!(net.events.iter().any(|(_, event)| matches!(event, Event::Sent { result: Ok(()), .. })));
    assert_eq!(hello(&mut net, 0, 2, 200), [1], "the proxy is a node like others");
    assert_eq!(hello(&mut net, 1, 1, 4), [0]);
    let before = net.nodes[0].discards().get(Discard::NotForThisNode);
    hello(&mut net, 2, 0xc123, 4);
    assert_eq!(net.nodes[0].discards().get(Discard::NotForThisNode), before, "the filter keeps groups back");
    let model = mesh_wire::foundation::ModelRef { element: unicast(1), model: net::MODEL };
    net.configure(
        0,
        ConfigMessage::ModelSubscriptionChange {
            change: mesh_wire::foundation::SubscriptionChange::Add,
            address: Address::from(0xc123),
            model,
        },
    );
    assert_eq!(hello(&mut net, 2, 0xc123, 4), [0], "a subscription is told the server");
    // With an empty reject list the host hears all, and the node leaves the filter alone from then on.
    let request = ProxyConfiguration::SetFilterType(FilterType::RejectList);
    net.command(0, Command::ProxyFilter { connection: LINK, request });
    hello(&mut net, 2, 0xc777, 4);
    assert!(net.nodes[0].discards().get(Discard::NotForThisNode) > before);
}

#[test]
fn a_pdu_is_passed_on_once_with_a_ttl_of_one_less_and_not_where_it_came_from() {
    let mut net = behind_proxy();
    let group = u16::from(GroupAddress::ALL_NODES);
    net.sent.clear();
    hello(&mut net, 0, group, 4);
    let passed = net.sent.iter().filter(|(from, sent)| *from == 1 && sent.ad_type.eq(&mesh_ad())).count();
    assert_eq!(passed, 1, "from the connection to the air");
    assert_eq!(net.nodes[0].discards().get(Discard::OwnSource), 0, "and not back");
    assert_eq!(net.nodes[0].discards().get(Discard::Cached), 0);
}

/// The client tells the server of everything that reaches it, so that a connection hears what the air would.
#[test]
fn a_client_asks_for_the_fixed_groups_of_its_features_and_for_heartbeats() {
    let mut net = behind_proxy();
    let (relays, group) = (u16::from(GroupAddress::ALL_RELAYS), Address::from(0xc200));
    assert_eq!(hello(&mut net, 2, relays, 4), []);
    let retransmit = mesh_wire::Transmit::from_octet(0);
    net.configure(0, ConfigMessage::RelaySet { relay: FeatureState::Enabled, retransmit });
    carry(&mut net);
    assert_eq!(hello(&mut net, 2, relays, 4), [0]);
    let subscription = ConfigMessage::HeartbeatSubscriptionSet {
        source: unicast(3).into(),
        destination: group,
        period_log: 9,
    };
    net.configure(0, subscription);
    carry(&mut net);
    let publication = HeartbeatPublication {
        destination: group,
        count_log: 1,
        period_log: 1,
        ttl: mesh_wire::Ttl::new(5).unwrap(),
        ..HeartbeatPublication::NONE
    };
    net.configure(2, ConfigMessage::HeartbeatPublicationSet { publication });
    net.run(SECOND);
    carry(&mut net);
    net.run(SECOND);
    assert!(net.events.iter().any(|(at, event)| *at == 0 && matches!(event, Event::Heartbeat { .. })));
}

/// MshPRT §3.4.5.1, §3.4.5.2: the filters of a GATT interface drop what friendship credentials secure.
#[test]
fn what_a_friendship_secures_neither_leaves_nor_comes_by_a_connection() {
    let mut net = Net::with_options(2, |address| NodeOptions {
        friend: (address == 1).then(FriendSettings::default),
        low_power: (address == 2).then(LowPowerSettings::default),
        proxy: true,
        ..NodeOptions::default()
    });
    net.command(1, Command::LowPower(true));
    net.run(5 * SECOND);
    assert!(net.nodes[1].friend().is_some());
    let now = net.now;
    net.nodes[0].handle_proxy_connected(now, LINK, ProxyRole::Server, 66);
    net.nodes[1].handle_proxy_connected(now, LINK, ProxyRole::Client, 66);
    net.store(1);
    take(&mut net.nodes[1]);
    net.command(1, Command::Send(net::message(Address::from(1), 4)));
    let sent = net.nodes[1].poll_transmit().unwrap();
    assert_eq!(take(&mut net.nodes[1]), [], "the Friend gets it by the air");
    let [octets] = &segment(MessageType::NetworkPdu, &sent.data, 66)[..] else { panic!("one PDU") };
    net.nodes[0].handle_proxy_pdu(now, LINK, octets);
    assert_eq!(net.nodes[0].discards().get(Discard::Proxy), 1);
}

fn mesh_ad() -> mesh_wire::bearer::AdType {
    mesh_wire::bearer::AdType::MeshMessage
}

#[test]
fn what_breaks_the_protocol_is_disconnected() {
    let now = Instant::ORIGIN;
    let mut server = proxy(1);
    for broken in [&[0xc0, 1][..], &[0; 40]] {
        server.handle_proxy_connected(now, LINK, ProxyRole::Server, SMALLEST);
        take(&mut server);
        server.handle_proxy_pdu(now, LINK, broken);
        assert_eq!(take(&mut server), [ProxyOutput::Disconnect(LINK)]);
    }
    // A message that does not become whole in 20 seconds.
    server.handle_proxy_connected(now, LINK, ProxyRole::Server, SMALLEST);
    server.handle_proxy_pdu(now, LINK, &[0x40, 1]);
    take(&mut server);
    let late = now + Duration::from_secs(20);
    assert!(server.poll_timeout().unwrap() <= late);
    server.handle_timeout(late);
    assert_eq!(take(&mut server), [ProxyOutput::Disconnect(LINK)]);
    // Provisioning is not for nodes, reserved types are for nobody, and neither does harm.
    server.handle_proxy_connected(now, LINK, ProxyRole::Server, SMALLEST);
    take(&mut server);
    server.handle_proxy_pdu(now, LINK, &[0x03, 0, 0]);
    server.handle_proxy_pdu(now, LINK, &[0x3e, 0, 0]);
    assert_eq!(take(&mut server), []);
    for number in 100.. {
        server.handle_proxy_connected(now, ConnectionId(number), ProxyRole::Server, SMALLEST);
        if take(&mut server).contains(&ProxyOutput::Disconnect(ConnectionId(number))) {
            assert_eq!(usize::from(number), 100 + MAX_CONNECTIONS - 1, "one was there already");
            break;
        }
    }
}

#[test]
fn a_proxy_advertises_its_networks_or_for_a_minute_itself() {
    let mut net = Net::new(1);
    net.nodes[0] = proxy(1);
    net.run(SECOND);
    let network = ProxyIdentification::NetworkId(net_key(1).network_id());
    assert_eq!(net.nodes[0].poll_proxy_advertising(), Some(vec![network]));
    assert_eq!(net.nodes[0].poll_proxy_advertising(), None);
    let set = ConfigMessage::NodeIdentitySet { index: NET, identity: FeatureState::Enabled };
    let answer = net.configure(0, set.clone());
    let status = mesh_wire::foundation::Status::Success;
    let identity = FeatureState::Enabled;
    assert_eq!(answer, ConfigMessage::NodeIdentityStatus { status, index: NET, identity });
    let advertised = net.nodes[0].poll_proxy_advertising().unwrap();
    assert!(advertised.len() == 1 && advertised[0].is_node(&net_key(1), unicast(1)));
    net.run(59 * SECOND);
    assert_eq!(net.nodes[0].poll_proxy_advertising(), None);
    net.run(SECOND);
    assert_eq!(net.nodes[0].poll_proxy_advertising(), Some(vec![network]));
    net.command(0, Command::IdentifyNode);
    let again = net.nodes[0].poll_proxy_advertising().unwrap();
    assert!(again[0].is_node(&net_key(1), unicast(1)) && again != advertised, "drawn anew");
    // Turned off, it says nothing, has no identity, and ends its connections.
    let now = net.now;
    net.nodes[0].handle_proxy_connected(now, LINK, ProxyRole::Server, SMALLEST);
    take(&mut net.nodes[0]);
    net.configure(0, ConfigMessage::GattProxySet { proxy: FeatureState::Disabled });
    assert_eq!(net.nodes[0].poll_proxy_advertising(), Some(vec![]));
    assert_eq!(take(&mut net.nodes[0]), [ProxyOutput::Disconnect(LINK)]);
    let identity = FeatureState::Disabled;
    assert_eq!(net.configure(0, set), ConfigMessage::NodeIdentityStatus { status, index: NET, identity });
    let refused = net.nodes[0].handle_command(now, Command::IdentifyNode);
    assert_eq!(refused, Err(CommandError::NoProxy));
    assert!(net.nodes[0].composition().features.contains(Features::PROXY));
}

#[test]
fn a_client_sets_its_filter_even_if_the_first_beacon_is_of_a_subnet_that_it_does_not_have() {
    let mut net = behind_proxy();
    let mut foreign = net.nodes[1].secure_network_beacon(NET).unwrap();
    foreign.network_id = [1; 8];
    let beacon = Beacon::SecureNetwork(foreign).encode();
    let now = net.now;
    net.nodes[0].handle_proxy_disconnected(LINK);
    net.nodes[0].handle_proxy_connected(now, LINK, ProxyRole::Client, 66);
    net.nodes[0].handle_proxy_pdu(now, LINK, &segment(MessageType::MeshBeacon, &beacon, 66)[0]);
    net.store(0);
    let output = take(&mut net.nodes[0]);
    assert!(matches!(&output[..], [ProxyOutput::Pdu { octets, .. }] if octets[0] == 2));
}
