//! Both ends of a provisioning, with whatever is said to them in between: neither becomes a node, nor makes one, that
//! the other does not know of.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use clock::Instant;
use libfuzzer_sys::fuzz_target;
use mesh_crypto::{NetKey, PrivateKey};
use mesh_proto::provisioning::{
    Authentication, Choice, DeviceConfig, DeviceEvent, LinkEnd, Protocol as _, Provisionee, Provisioner,
    ProvisionerEvent, Random, Secrets,
};
use mesh_wire::address::UnicastAddress;
use mesh_wire::beacon::NetworkFlags;
use mesh_wire::bearer::pb_adv::CloseReason;
use mesh_wire::provisioning::ProvisioningData;
use mesh_wire::{IvIndex, KeyIndex};

/// The key pairs of the two ends, made once: making one takes as long as all else that an input does.
static SECRETS: LazyLock<[Secrets; 2]> = LazyLock::new(|| {
    [1, 2].map(|octet| Secrets {
        private_key: PrivateKey::new(&[octet; 32]).expect("a scalar below the order of the curve"),
        random: Random([octet; 32]),
    })
});

fn choice() -> Choice {
    Choice {
        authentication: Authentication::NoOob,
        oob_public_key: None,
        allows_cmac: true,
        data: ProvisioningData {
            net_key: NetKey::new([1; 16]),
            net_key_index: KeyIndex::ZERO,
            flags: NetworkFlags::default(),
            iv_index: IvIndex(0),
            address: UnicastAddress::new(1).expect("unicast"),
        },
    }
}

fuzz_target!(|operations: Vec<(u8, &[u8])>| {
    let mut device = Provisionee::new(DeviceConfig::new(1), [1; 32]).with_secrets(SECRETS[0].clone());
    let mut provisioner = Provisioner::new(0, [2; 32]).with_secrets(SECRETS[1].clone());
    let mut now = Instant::ORIGIN;
    device.handle_link_open(now);
    provisioner.handle_link_open(now);
    let (mut device_key, mut provisioner_key) = (None, None);
    for (kind, data) in operations {
        match kind % 10 {
            0 => device.handle_pdu(now, data),
            1 => provisioner.handle_pdu(now, data),
            2 => drop(device.poll_transmit()),
            3 => drop(provisioner.poll_transmit()),
            4 => {
                now += Duration::from_secs(u64::from(kind));
                device.handle_timeout(now);
                provisioner.handle_timeout(now);
            }
            5 => device.handle_link_end(now, LinkEnd::Closed(CloseReason::from(kind))),
            6 => device.handle_link_open(now),
            // What most runs are made of: one PDU goes to the other end.
            7 | 8 => {
                if let Some(pdu) = provisioner.poll_transmit() {
                    device.handle_pdu(now, &pdu);
                }
            }
            _ => {
                if let Some(pdu) = device.poll_transmit() {
                    provisioner.handle_pdu(now, &pdu);
                }
            }
        }
        while let Some(event) = device.poll_event() {
            if let DeviceEvent::Provisioned { dev_key, .. } = event {
                device_key = Some(dev_key);
            }
        }
        while let Some(event) = provisioner.poll_event() {
            match event {
                ProvisionerEvent::Capabilities(_) => drop(provisioner.choose(now, choice())),
                ProvisionerEvent::Provisioned(node) => provisioner_key = Some(node.dev_key),
                _ => {}
            }
        }
    }
    device.handle_link_end(now, LinkEnd::Lost);
    while let Some(event) = device.poll_event() {
        if let DeviceEvent::Provisioned { dev_key, .. } = event {
            device_key = Some(dev_key);
        }
    }
    // Complete can be made up by who is in between; data cannot: it is secured with what only the two ends know.
    if let (Some(device), Some(provisioner)) = (device_key, provisioner_key) {
        assert!(device == provisioner);
    }
});
