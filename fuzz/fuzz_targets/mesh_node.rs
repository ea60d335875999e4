//! Whatever comes over the air or a connection, under a node's keys or not, it goes on.
#![no_main]

use std::time::Duration;

use clock::Instant;
use libfuzzer_sys::fuzz_target;
use mesh_crypto::{AppKey, DevKey, Mic, NetKey, NetworkKeys};
use mesh_models::lighting::{Light, LightKind};
use mesh_models::messages::ON_OFF_SERVER;
use mesh_proto::access::Element;
use mesh_proto::bearer::Received;
use mesh_proto::foundation::Product;
use mesh_proto::friend::FriendSettings;
use mesh_proto::keys::{Keys, MessageKey};
use mesh_proto::network::Relay;
use mesh_proto::node::{Command, Node, NodeConfig, NodeOptions, Provisioned};
use mesh_proto::proxy::{ConnectionId, ProxyRole};
use mesh_proto::upper_transport::{Destination, Envelope, secure};
use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::bearer::AdType;
use mesh_wire::bearer::proxy::{MessageType, segment};
use mesh_wire::foundation::{ConfigMessage, ModelRef};
use mesh_wire::lower_transport::LowerTransportPdu;
use mesh_wire::network::NetworkPdu;
use mesh_wire::proxy_configuration::ProxyConfigurationPdu;
use mesh_wire::{CompanyId, IvIndex, KeyIndex, Seq, SeqAuth, Transmit, Ttl};

const NET_KEY: NetKey = NetKey::new([1; 16]);
const LINK: ConnectionId = ConnectionId(1);
const DEV_KEY: DevKey = DevKey::new([2; 16]);

fn node() -> Node {
    let transmit = Transmit::from_octet(0);
    let address = UnicastAddress::new(2).expect("unicast");
    let (net_key_index, index) = (KeyIndex::ZERO, KeyIndex::ZERO);
    let mut node = Node::new(
        Provisioned { net_key: NET_KEY, net_key_index, iv_index: IvIndex(1), address, dev_key: DEV_KEY },
        NodeConfig {
            product: Product { company: CompanyId(0xffff), product: 1, version: 1 },
            elements: vec![Element::new(0).with_server(Light::new(LightKind::Coloured))],
            network_transmit: transmit,
            relay: Relay { enabled: true, retransmit: transmit },
            default_ttl: Ttl::MAX,
            seed: [0; 32],
            options: NodeOptions {
                friend: Some(FriendSettings::default()),
                proxy: true,
                ..NodeOptions::default()
            },
        },
    );
    let model = ModelRef { element: address, model: ON_OFF_SERVER };
    let key = AppKey::new([3; 16]);
    for request in
        [ConfigMessage::AppKeyAdd { net_key_index, index, key }, ConfigMessage::ModelAppBind { index, model }]
    {
        node.handle_command(Instant::ORIGIN, Command::Configure(request)).expect("a valid request");
    }
    node
}

fuzz_target!(|input: Vec<(u8, &[u8])>| {
    let mut node = node();
    let mut now = Instant::ORIGIN;
    node.handle_proxy_connected(now, LINK, ProxyRole::Server, 20);
    let flooding = NetworkKeys::flooding(&NET_KEY);
    let keys = Keys::new(DEV_KEY, KeyIndex::ZERO, NET_KEY);
    let src = UnicastAddress::new(1).expect("unicast");
    let dst = Address::from(2);
    for (seq, (kind, data)) in (0..).zip(input) {
        let seq = Seq::new(seq).expect("few messages");
        let network = |ctl, transport_pdu: &[u8]| {
            let pdu = NetworkPdu { ctl, ttl: Ttl::MAX, seq, src, dst, transport_pdu: transport_pdu.into() };
            pdu.secure(&flooding, IvIndex(1)).to_vec()
        };
        let octets = match kind % 8 {
            0 => data.to_vec(),
            4 => {
                node.handle_proxy_pdu(now, LINK, data);
                continue;
            }
            5 if (1..=12).contains(&data.len()) => {
                let pdu = ProxyConfigurationPdu { seq, src, message: data.into() };
                let octets = pdu.secure(&flooding, IvIndex(1));
                for part in segment(MessageType::ProxyConfiguration, &octets, 20) {
                    node.handle_proxy_pdu(now, LINK, &part);
                }
                continue;
            }
            6 => {
                node.handle_pdu(now, &Received { ad_type: AdType::MeshBeacon, data, rssi: -60 });
                continue;
            }
            // The connection is lost, and there again.
            7 => {
                node.handle_proxy_disconnected(LINK);
                node.handle_proxy_connected(now, LINK, ProxyRole::Server, 20 + data.len());
                continue;
            }
            // A transport PDU of at most what fits.
            1 if (1..=16).contains(&data.len()) => network(false, data),
            2 if (1..=12).contains(&data.len()) => network(true, data),
            // An access message under the device key.
            3 if (1..=11).contains(&data.len()) => {
                let seq_auth = SeqAuth { iv_index: IvIndex(1), seq };
                let envelope = Envelope { net_key_index: KeyIndex::ZERO, src, dst, seq_auth };
                let to = Destination::Address(dst);
                let secured =
                    secure(&keys, MessageKey::LocalDevice, &to, &envelope, data, Mic::Bits32).expect("a key");
                network(
                    false,
                    &LowerTransportPdu::UnsegmentedAccess(secured.hint, secured.upper.into()).encode(),
                )
            }
            _ => continue,
        };
        node.handle_pdu(now, &Received { ad_type: AdType::MeshMessage, data: &octets, rssi: -60 });
        now += Duration::from_millis(u64::from(kind));
        while node.poll_timeout().is_some_and(|at| at <= now) {
            node.handle_timeout(now);
        }
        while node.poll_transmit().is_some() {}
        while node.poll_event().is_some() {}
        while node.poll_proxy().is_some() {}
        let _ = node.poll_proxy_advertising();
    }
});
