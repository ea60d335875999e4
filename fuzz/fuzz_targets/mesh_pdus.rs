//! What a PDU is read from is what it is written as.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_crypto::{NetKey, NetworkKeys};
use mesh_wire::access::Opcode;
use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::beacon::{Beacon, UnprovisionedDevice};
use mesh_wire::bearer::pb_adv::PbAdvPdu;
use mesh_wire::bearer::proxy::ProxyPdu;
use mesh_wire::bearer::proxy_service::ProxyIdentification;
use mesh_wire::foundation::{CompositionData, ConfigMessage, HealthMessage};
use mesh_wire::friendship::FriendshipMessage;
use mesh_wire::heartbeat::Heartbeat;
use mesh_wire::lower_transport::LowerTransportPdu;
use mesh_wire::network::{Header, NetworkPdu, ivi_nid};
use mesh_wire::provisioning::{ProvisioningData, ProvisioningPdu};
use mesh_wire::proxy_configuration::{ProxyConfiguration, ProxyConfigurationPdu};
use mesh_wire::{IvIndex, Seq, Ttl};

/// What the secured layers are opened with.
const NET_KEY: NetKey = NetKey::new([1; 16]);
const IV_INDEX: IvIndex = IvIndex(1);

/// Octets as they are, and what can be secured of them: no fuzzer guesses a MIC.
fn network(octets: &[u8]) {
    let keys = NetworkKeys::flooding(&NET_KEY);
    let open = |octets: &[u8]| {
        let header = Header::deobfuscate(octets, &keys, IV_INDEX)?;
        header.decrypt(octets, &keys, IV_INDEX)
    };
    let _ = ivi_nid(octets);
    let _ = open(octets);
    let _ = ProxyConfigurationPdu::open(octets, &keys, IV_INDEX);
    let [ttl, a, b, c, src @ .., d, e] = octets else { return };
    let [high, low, transport_pdu @ ..] = src else { return };
    let Some(src) = UnicastAddress::new(u16::from_be_bytes([*high, *low])) else { return };
    let (ctl, ttl) = (ttl & 0x80 != 0, Ttl::new(ttl & 0x7f).expect("seven bits"));
    let seq = Seq::new(u32::from_be_bytes([0, *a, *b, *c])).expect("24 bits");
    let most = if ctl { 12 } else { 16 };
    if transport_pdu.is_empty() || transport_pdu.len() > most {
        return;
    }
    let dst = Address::from(u16::from_be_bytes([*d, *e]));
    let pdu = NetworkPdu { ctl, ttl, seq, src, dst, transport_pdu: transport_pdu.into() };
    let opened = open(&pdu.secure(&keys, IV_INDEX));
    match dst {
        Address::Unassigned => assert!(opened.is_err()),
        // A control message is not for a label (MshPRT §3.4.4.7).
        Address::Virtual(_) if ctl => assert!(opened.is_err()),
        _ => assert_eq!(opened, Ok(pdu)),
    }
    let pdu = ProxyConfigurationPdu { seq, src, message: transport_pdu.into() };
    if transport_pdu.len() <= 12 {
        let secured = pdu.secure(&keys, IV_INDEX);
        assert_eq!(ProxyConfigurationPdu::open(&secured, &keys, IV_INDEX), Ok(pdu));
    }
}

fuzz_target!(|octets: &[u8]| {
    if let Ok(pdu) = PbAdvPdu::decode(octets) {
        assert_eq!(pdu.encode().as_slice(), octets);
    }
    if let Ok(pdu) = ProxyPdu::decode(octets) {
        assert_eq!(pdu.encode(), octets);
    }
    if let Ok(identification) = ProxyIdentification::decode(octets) {
        assert_eq!(identification.encode().as_slice(), octets);
    }
    if let Ok(message) = ProxyConfiguration::decode(octets) {
        // Bits that are reserved are not kept.
        assert_eq!(ProxyConfiguration::decode(&message.encode()), Ok(message));
    }
    if let Ok(pdu) = ProvisioningPdu::decode(octets) {
        assert_eq!(pdu.encode(), octets);
    }
    if let Ok(beacon) = Beacon::decode(octets) {
        assert_eq!(beacon.encode().as_slice(), octets);
    }
    if let Ok(data) = octets.try_into() {
        if let Ok(read) = ProvisioningData::decode(data) {
            // Bits that are reserved are not kept.
            assert_eq!(ProvisioningData::decode(&read.to_octets()), Ok(read));
        }
    }
    if let Ok(device) = UnprovisionedDevice::from_service_data(octets) {
        assert_eq!(device.service_data().as_slice(), octets);
    }
    network(octets);
    if let Some((&opcode, parameters)) = octets.split_first()
        && let Ok(message) = FriendshipMessage::decode(opcode, parameters)
    {
        // Bits that are reserved are not kept.
        assert_eq!(FriendshipMessage::decode(message.opcode(), &message.encode()), Ok(message));
    }
    for ctl in [false, true] {
        if let Ok(pdu) = LowerTransportPdu::decode(ctl, octets) {
            // Bits that are reserved are not kept.
            assert_eq!(LowerTransportPdu::decode(ctl, &pdu.encode()), Ok(pdu));
        }
    }
    if let Ok(heartbeat) = Heartbeat::decode(octets) {
        assert_eq!(Heartbeat::decode(&heartbeat.encode()), Ok(heartbeat));
    }
    if let Ok(composition) = CompositionData::decode(octets) {
        assert_eq!(CompositionData::decode(&composition.encode()), Ok(composition));
    }
    let Ok((opcode, parameters)) = Opcode::decode(octets) else { return };
    if let Ok(message) = ConfigMessage::decode(opcode, parameters) {
        let again = message.encode();
        let (opcode, parameters) = Opcode::decode(&again).expect("an opcode that was written");
        assert_eq!(ConfigMessage::decode(opcode, parameters), Ok(message));
    }
    if let Ok(message) = HealthMessage::decode(opcode, parameters) {
        assert_eq!(message.encode(), octets);
    }
});
