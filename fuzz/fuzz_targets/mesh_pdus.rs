//! What a PDU is read from is what it is written as.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_wire::access::Opcode;
use mesh_wire::beacon::Beacon;
use mesh_wire::bearer::pb_adv::PbAdvPdu;
use mesh_wire::bearer::proxy::ProxyPdu;
use mesh_wire::bearer::proxy_service::ProxyIdentification;
use mesh_wire::foundation::{CompositionData, ConfigMessage, HealthMessage};
use mesh_wire::heartbeat::Heartbeat;
use mesh_wire::lower_transport::LowerTransportPdu;
use mesh_wire::provisioning::{ProvisioningData, ProvisioningPdu};
use mesh_wire::proxy_configuration::ProxyConfiguration;

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
            assert_eq!(&read.to_octets(), data);
        }
    }
    for ctl in [false, true] {
        if let Ok(pdu) = LowerTransportPdu::decode(ctl, octets) {
            // Bits that are reserved are not kept.
            assert_eq!(LowerTransportPdu::decode(ctl, &pdu.encode()), Ok(pdu));
        }
    }
    let _ = Heartbeat::decode(octets);
    if let Ok(composition) = CompositionData::decode(octets) {
        let _ = composition.encode();
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
