//! Who listens on the medium and has every key: what was sent, and whether a sequence number secures two PDUs.

use std::collections::{BTreeMap, BTreeSet};

use mesh_crypto::{FriendshipParameters, NetworkKeys};
use mesh_proto::network::IvUpdate;
use mesh_wire::friendship::FriendshipMessage;
use mesh_wire::lower_transport::LowerTransportPdu;
use mesh_wire::network::{Header, NetworkPdu, ivi_nid};
use mesh_wire::{IvIndex, SeqAuth};

use crate::net::net_key;

/// Low Power node, Friend, and their counters.
type Parameters = (u16, u16, u16, u16);

#[derive(Default)]
pub(crate) struct Wiretap {
    keys: Vec<NetworkKeys>,
    generations: Vec<u8>,
    requests: BTreeSet<(u16, u16)>,
    offers: BTreeSet<(u16, u16, u16)>,
    friendships: BTreeSet<Parameters>,
    /// What each sequence number of each node secured.
    secured: BTreeMap<(u16, IvIndex, u32), NetworkPdu>,
}

impl Wiretap {
    /// A NetKey that is in use from now on.
    pub(crate) fn learn(&mut self, generation: u8) {
        self.generations.push(generation);
        self.keys.push(NetworkKeys::flooding(&net_key(generation)));
        for parameters in self.friendships.clone() {
            self.keys.push(derive(generation, parameters));
        }
    }

    /// Opens what a node sends, and holds it against what was sent before. No pair of IV Index and sequence number
    /// secures two PDUs (MshPRT §3.4.4.5).
    pub(crate) fn check(&mut self, node: u16, iv: &IvUpdate, octets: &[u8]) -> (NetworkPdu, SeqAuth) {
        let (ivi, nid) = ivi_nid(octets).unwrap();
        let iv_index = iv.receiving(ivi).unwrap();
        let open = |keys: &NetworkKeys| {
            let header = Header::deobfuscate(octets, keys, iv_index).ok()?;
            header.decrypt(octets, keys, iv_index).ok()
        };
        let pdu = self.keys.iter().filter(|keys| keys.nid() == nid).find_map(open);
        let pdu = pdu.unwrap_or_else(|| panic!("node {node} sends under no key that it may have"));
        self.learn_friendship(&pdu);
        if u16::from(pdu.src) == node {
            let place = (node, iv_index, u32::from(pdu.seq));
            let before = self.secured.insert(place, pdu.clone());
            assert!(before.is_none_or(|before| before == pdu), "{place:?} secures two PDUs");
        }
        let seq_auth = pdu.seq_auth(iv_index);
        (pdu, seq_auth)
    }

    fn learn_friendship(&mut self, pdu: &NetworkPdu) {
        let Ok(LowerTransportPdu::UnsegmentedControl(opcode, parameters)) =
            LowerTransportPdu::decode(pdu.ctl, &pdu.transport_pdu)
        else {
            return;
        };
        match FriendshipMessage::decode(opcode, &parameters) {
            Ok(FriendshipMessage::Request(request)) => {
                self.requests.insert((pdu.src.into(), request.lpn_counter));
            }
            Ok(FriendshipMessage::Offer(offer)) => {
                self.offers.insert((pdu.dst.into(), pdu.src.into(), offer.friend_counter));
            }
            _ => return,
        }
        for &(lpn, lpn_counter) in &self.requests {
            for &(to, friend, friend_counter) in self.offers.iter().filter(|offer| offer.0 == lpn) {
                let parameters = (to, friend, lpn_counter, friend_counter);
                if self.friendships.insert(parameters) {
                    let derived = self.generations.iter().map(|&generation| derive(generation, parameters));
                    self.keys.extend(derived);
                }
            }
        }
    }
}

fn derive(
    generation: u8,
    (lpn_address, friend_address, lpn_counter, friend_counter): Parameters,
) -> NetworkKeys {
    let parameters = FriendshipParameters { lpn_address, friend_address, lpn_counter, friend_counter };
    NetworkKeys::friendship(&net_key(generation), parameters)
}
