//! Two ends of a provisioning on a simulated advertising bearer, in virtual time.
#![allow(unreachable_pub, reason = "shared by the tests that include it")]

use std::collections::BTreeMap;
use std::time::Duration;

use clock::Instant;
use mesh_crypto::{DevKey, NetKey};
use mesh_proto::bearer::{Received, Transmission};
use mesh_proto::provisioning::{DeviceEvent, PbAdv, Protocol, Provisionee, Provisioner, ProvisionerEvent};
use mesh_wire::address::UnicastAddress;
use mesh_wire::beacon::{NetworkFlags, UnprovisionedDevice};
use mesh_wire::bearer::AdType;
use mesh_wire::provisioning::ProvisioningData;
use mesh_wire::{IvIndex, KeyIndex};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

pub const UUID: [u8; 16] =
    [0x70, 0xcf, 0x7c, 0x97, 0x32, 0xa3, 0x45, 0xb6, 0x91, 0x49, 0x48, 0x10, 0xd2, 0xe9, 0xcb, 0xf4];

pub fn beacon() -> UnprovisionedDevice {
    UnprovisionedDevice { uuid: UUID, oob_information: 0, uri_hash: None }
}

pub fn data() -> ProvisioningData {
    ProvisioningData {
        net_key: NetKey::new([0x42; 16]),
        net_key_index: KeyIndex::new(0x567).unwrap(),
        flags: NetworkFlags::default(),
        iv_index: IvIndex(0x0102_0304),
        address: UnicastAddress::new(0x0b0c).unwrap(),
    }
}

/// The two ends, what is between them, and what they said.
pub struct Air {
    pub now: Instant,
    pub device: PbAdv<Provisionee>,
    pub provisioner: PbAdv<Provisioner>,
    pub device_events: Vec<DeviceEvent>,
    pub provisioner_events: Vec<ProvisionerEvent>,
    /// Every PB-ADV PDU that was sent, in order of sending.
    pub sent: Vec<Vec<u8>>,
    /// Of 100 advertisements so many are lost.
    pub loss: u32,
    rng: ChaCha8Rng,
    flying: BTreeMap<(Instant, u64), (bool, Vec<u8>)>,
    number: u64,
}

impl Air {
    pub fn new(device: PbAdv<Provisionee>, provisioner: PbAdv<Provisioner>, loss: u32, seed: u64) -> Self {
        Self {
            now: Instant::ORIGIN,
            device,
            provisioner,
            device_events: Vec::new(),
            provisioner_events: Vec::new(),
            sent: Vec::new(),
            loss,
            rng: ChaCha8Rng::seed_from_u64(seed),
            flying: BTreeMap::new(),
            number: 0,
        }
    }

    fn launch(&mut self, from_device: bool, transmission: &Transmission) {
        if transmission.ad_type != AdType::PbAdv {
            return;
        }
        self.sent.push(transmission.data.to_vec());
        for repetition in 0..u32::from(transmission.count) {
            if self.rng.next_u32() % 100 < self.loss {
                continue;
            }
            let at = self.now + transmission.delay + transmission.interval * repetition;
            self.number += 1;
            self.flying.insert((at, self.number), (from_device, transmission.data.to_vec()));
        }
    }

    pub fn collect(&mut self) {
        while let Some(transmission) = self.device.poll_transmit() {
            self.launch(true, &transmission);
        }
        while let Some(transmission) = self.provisioner.poll_transmit() {
            self.launch(false, &transmission);
        }
        let now = self.now;
        while let Some(event) = self.device.with_protocol(now, Provisionee::poll_event) {
            self.device_events.push(event);
        }
        while let Some(event) = self.provisioner.with_protocol(now, Provisioner::poll_event) {
            self.provisioner_events.push(event);
        }
    }

    /// One event after another until `is_over`, or `limit` of virtual time is gone.
    pub fn run(&mut self, limit: Duration, mut is_over: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            self.collect();
            if is_over(self) {
                return true;
            }
            self.collect();
            let flying = self.flying.keys().next().map(|&(at, _)| at);
            let next = [flying, self.device.poll_timeout(), self.provisioner.poll_timeout()]
                .into_iter()
                .flatten()
                .min();
            let Some(next) = next.filter(|&at| at <= end) else {
                self.now = end;
                return false;
            };
            self.now = self.now.max(next);
            let arrived = self.flying.first_key_value().is_some_and(|(&(at, _), _)| at <= self.now);
            if arrived {
                let (_, (from_device, data)) = self.flying.pop_first().unwrap();
                let received = Received { ad_type: AdType::PbAdv, data: &data, rssi: -40 };
                if from_device {
                    self.provisioner.handle_pdu(self.now, &received);
                } else {
                    self.device.handle_pdu(self.now, &received);
                }
            } else {
                self.device.handle_timeout(self.now);
                self.provisioner.handle_timeout(self.now);
            }
        }
    }

    pub fn is_over(&mut self) -> bool {
        self.provisioner.protocol().is_done() && self.device_result().is_some()
    }

    pub fn device_result(&self) -> Option<Result<(ProvisioningData, DevKey), DeviceEvent>> {
        self.device_events.iter().find_map(|event| match event {
            DeviceEvent::Provisioned { data, dev_key } => Some(Ok((data.clone(), dev_key.clone()))),
            DeviceEvent::Failed(_) => Some(Err(event.clone())),
            _ => None,
        })
    }
}
