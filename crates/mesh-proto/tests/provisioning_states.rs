//! What each end of a provisioning does beside the messages: what it keeps and for how long, attention, beacons, timers,
//! addresses, and giving up.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/air.rs"]
mod air;

use std::time::Duration;

use air::{Air, UUID, beacon, data};
use clock::Instant;
use mesh_crypto::provisioning::AuthValue;
use mesh_proto::bearer::Received;
use mesh_proto::provisioning::{
    Authentication, Choice, ChoiceError, DeviceConfig, DeviceEvent, DeviceFailure, GiveUp, LinkEnd, NotAsked,
    OobActions, OobValue, PROVISIONING_TIMEOUT_WITH_USER, PbAdv, PbAdvConfig, PbGatt, Protocol as _,
    Provisionee, Provisioner, ProvisionerEvent, ProvisionerFailure,
};
use mesh_wire::bearer::AdType;
use mesh_wire::bearer::pb_adv::{CloseReason, segment};
use mesh_wire::provisioning::{Capabilities, ErrorCode, InputAction, OutputAction, ProvisioningPdu};

const NOW: Instant = Instant::ORIGIN;

fn choice(authentication: Authentication) -> Choice {
    Choice { authentication, oob_public_key: None, allows_cmac: true, data: data() }
}

fn config() -> DeviceConfig {
    DeviceConfig {
        static_oob: Some(AuthValue::from_octets(b"printed on its label")),
        output: OobActions { size: 4, actions: 0x1f },
        input: OobActions { size: 4, actions: 0x0f },
        ..DeviceConfig::new(2)
    }
}

/// Two ends without a bearer between them.
struct Ends {
    device: Provisionee,
    provisioner: Provisioner,
    choice: Choice,
    device_events: Vec<DeviceEvent>,
    provisioner_events: Vec<ProvisionerEvent>,
}

impl Ends {
    fn new(authentication: Authentication) -> Self {
        let mut ends = Self {
            device: Provisionee::new(config(), [1; 32]),
            provisioner: Provisioner::new(7, [2; 32]),
            choice: choice(authentication),
            device_events: Vec::new(),
            provisioner_events: Vec::new(),
        };
        ends.device.handle_link_open(NOW);
        ends.provisioner.handle_link_open(NOW);
        ends
    }

    /// Hands over one PDU; its type, or `None` when nobody has anything to say.
    fn step(&mut self) -> Option<u8> {
        let pdu = if let Some(pdu) = self.provisioner.poll_transmit() {
            self.device.handle_pdu(NOW, &pdu);
            pdu
        } else {
            let pdu = self.device.poll_transmit()?;
            self.provisioner.handle_pdu(NOW, &pdu);
            pdu
        };
        self.device_events.extend(std::iter::from_fn(|| self.device.poll_event()));
        while let Some(event) = self.provisioner.poll_event() {
            if matches!(event, ProvisionerEvent::Capabilities(_)) {
                self.provisioner.choose(NOW, self.choice.clone()).unwrap();
            }
            self.provisioner_events.push(event);
        }
        Some(pdu[0])
    }

    /// Goes on until a PDU of this type was handed over.
    fn until(&mut self, pdu_type: u8) {
        while self.step().unwrap_or_else(|| panic!("nobody says {pdu_type}")) != pdu_type {}
    }

    /// Goes on until nobody has anything to say.
    fn run(&mut self) {
        while self.step().is_some() {}
    }
}

fn events(device: &mut Provisionee) -> Vec<DeviceEvent> {
    std::iter::from_fn(|| device.poll_event()).collect()
}

/// MshPRT §5.4.1.10: what only the host of a device can know of is told, too, in each state.
#[test]
fn a_device_that_gives_up_says_out_of_resources_or_unexpected_error() {
    for (reason, code) in [
        (GiveUp::OutOfResources, ErrorCode::OutOfResources),
        (GiveUp::UnexpectedError, ErrorCode::UnexpectedError),
    ] {
        for last in [0, 2, 3, 5, 6] {
            let mut ends = Ends::new(choice(Authentication::NoOob).authentication);
            ends.until(last);
            while ends.device.poll_transmit().is_some() {}
            ends.device.give_up(reason);
            let failed = ends.device.poll_transmit().unwrap();
            assert_eq!(failed, [9, u8::from(code)], "after {last}");
            let failure = DeviceEvent::Failed(DeviceFailure::GaveUp(code));
            assert_eq!(events(&mut ends.device).last(), Some(&failure));
            ends.device.give_up(reason);
            assert_eq!((ends.device.poll_transmit(), ends.device.poll_event()), (None, None), "only once");
            ends.provisioner.handle_pdu(NOW, &failed);
            assert_eq!(ends.provisioner.poll_close(), Some(CloseReason::Fail));
        }
    }
    // Without a session, and for a node, there is nothing to give up.
    let mut idle = Provisionee::new(config(), [1; 32]);
    idle.give_up(GiveUp::OutOfResources);
    assert_eq!((idle.poll_transmit(), idle.poll_event()), (None, None));
    let mut ends = Ends::new(Authentication::NoOob);
    ends.until(7);
    ends.device.give_up(GiveUp::UnexpectedError);
    assert_eq!(ends.device.poll_transmit(), Some(vec![8]));
    assert!(ends.device.is_done());
}

/// MshPRT §5.4.2.2, §5.4.2.3: nobody is left who would switch it off.
#[test]
fn attention_ends_with_a_refusal() {
    for nonsense in [&[2, 9, 9, 9, 9, 9][..], &[0, 0], &[0x3f], &[2]] {
        let mut device = Provisionee::new(config(), [1; 32]);
        device.handle_link_open(NOW);
        device.handle_pdu(NOW, &[0, 30]);
        device.handle_pdu(NOW, nonsense);
        let events = events(&mut device);
        let attention = |seconds| DeviceEvent::Attention(Duration::from_secs(seconds));
        assert_eq!(events[..2], [attention(30), attention(0)], "{nonsense:?}");
        assert!(matches!(events[2..], [DeviceEvent::Failed(DeviceFailure::Refused(_))]), "{events:?}");
        device.handle_link_end(NOW, LinkEnd::Closed(CloseReason::Fail));
        assert_eq!(device.poll_event(), None, "and only once");
    }
}

/// MshPRT §5.4.4: "At this time, any provisioning protocol PDU received from the Provisioner is considered unexpected."
#[test]
fn after_a_failure_everything_is_unexpected() {
    let mut device = Provisionee::new(config(), [1; 32]);
    device.handle_link_open(NOW);
    device.handle_pdu(NOW, &[0x3f]);
    assert_eq!(device.poll_transmit(), Some(vec![9, 1]));
    let deadline = device.poll_timeout();
    for later in [&[0x3f][..], &[], &[0, 0, 0], &[0, 0], &[9, 1]] {
        device.handle_pdu(NOW + Duration::from_secs(20), later);
        assert_eq!(device.poll_transmit(), Some(vec![9, 3]), "{later:?}");
    }
    // Who goes on all the same does not keep the device from others.
    assert_eq!(device.poll_timeout(), deadline);
    device.handle_timeout(deadline.unwrap());
    assert_eq!(device.poll_close(), Some(CloseReason::Timeout));
}

/// MshPRT §5.4.2.3: "shall delete its private-public key pair", and §5.4.4: "shall permanently delete any stored
/// details". Who holds a secret prints that there is one.
#[test]
fn each_secret_is_gone_as_soon_as_it_has_served() {
    let holds = |end: &dyn std::fmt::Debug, name: &str| format!("{end:?}").contains(&format!("{name}(..)"));
    let mut ends = Ends::new(Authentication::NoOob);
    ends.until(2);
    assert!(holds(&ends.device, "PrivateKey") && holds(&ends.provisioner, "PrivateKey"));
    ends.until(3);
    assert!(!holds(&ends.device, "PrivateKey") && holds(&ends.device, "EcdhSecret"));
    ends.until(3);
    assert!(!holds(&ends.provisioner, "PrivateKey") && holds(&ends.provisioner, "EcdhSecret"));
    ends.until(6);
    assert!(!holds(&ends.device, "EcdhSecret") && holds(&ends.device, "Session"));
    assert!(!holds(&ends.device, "Random") && !holds(&ends.device, "Confirmation"));
    ends.until(6);
    for name in ["EcdhSecret", "Session", "Random", "Confirmation", "NetKey"] {
        assert!(!holds(&ends.provisioner, name), "{name}: {:?}", ends.provisioner);
    }
    ends.until(7);
    assert!(!holds(&ends.device, "Session"));
    ends.run();
    assert!(!holds(&ends.device, "DevKey") && !holds(&ends.provisioner, "DevKey"));

    // And whenever it fails.
    for last in [2, 3, 5, 6] {
        let mut ends = Ends::new(Authentication::NoOob);
        ends.until(last);
        ends.device.handle_pdu(NOW, &[0x3f]);
        ends.provisioner.cancel();
        for name in ["PrivateKey", "EcdhSecret", "Random", "Confirmation", "Session", "DevKey"] {
            assert!(!holds(&ends.device, name) && !holds(&ends.provisioner, name), "{name} after {last}");
        }
    }
}

/// A power cut between Complete and what the device stores would leave the provisioner with a node that does not know of
/// it: what is to be stored is there before Complete leaves.
#[test]
fn a_device_knows_that_it_is_a_node_before_it_says_so() {
    let mut ends = Ends::new(Authentication::NoOob);
    ends.until(7);
    let Some(DeviceEvent::Provisioned { data: got, .. }) = ends.device_events.last() else {
        panic!("{:?}", ends.device_events);
    };
    assert_eq!(*got, data());
    assert_eq!(ends.device.poll_transmit(), Some(vec![8]), "Complete is still to be sent");
    ends.device.handle_delivered(NOW);
    assert_eq!((ends.device.poll_event(), ends.device.poll_timeout()), (None, None), "once only");
}

/// A device on PB-ADV that is spoken to by hand, in a link of id 1.
struct OnAir {
    now: Instant,
    device: PbAdv<Provisionee>,
}

impl OnAir {
    fn new() -> Self {
        let device = Provisionee::new(config(), [1; 32]);
        Self { now: NOW, device: PbAdv::device(NOW, device, beacon(), PbAdvConfig::default(), [2; 32]) }
    }

    fn say(&mut self, octets: &[u8]) {
        let data = [&[0, 0, 0, 1][..], octets].concat();
        self.device.handle_pdu(self.now, &Received { ad_type: AdType::PbAdv, data: &data, rssi: -40 });
    }

    fn open(&mut self) {
        self.say(&[&[0, 3][..], &UUID].concat());
        assert!(self.device.is_linked());
    }

    /// How many beacons it sends within this time.
    fn beacons(&mut self, time: Duration) -> usize {
        let end = self.now + time;
        let mut beacons = 0;
        loop {
            let sent = std::iter::from_fn(|| self.device.poll_transmit());
            beacons += sent.filter(|sent| sent.ad_type == AdType::MeshBeacon).count();
            match self.device.poll_timeout().filter(|&at| at <= end) {
                Some(at) => {
                    self.now = self.now.max(at);
                    self.device.handle_timeout(self.now);
                }
                None => break,
            }
        }
        self.now = end;
        beacons
    }
}

/// MshPRT §5.4.2.1, §5.3.2: a device "is being provisioned when the link is open and [it] has received any Provisioning
/// PDU"; until then it beacons. Else anybody could hide it by opening links.
#[test]
fn a_link_that_nobody_uses_hides_no_device() {
    let ten = Duration::from_secs(10);
    let mut air = OnAir::new();
    assert!(air.beacons(ten) >= 4);
    air.open();
    assert!(air.beacons(ten) >= 4, "the link is open, and not used");
    // A first segment is no PDU yet.
    air.say(&[0, 2 << 2, 0, 65, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert!(air.beacons(ten) >= 4);
    air.say(&[0, 0x0b, 0]);
    assert!(!air.device.is_linked());
    assert!(air.beacons(ten) >= 4, "the link is closed");
    // A link timer of a minute closes it, too.
    air.open();
    assert!(air.beacons(Duration::from_secs(61)) >= 28);
    assert!(!air.device.is_linked());
    // Once it is being provisioned it is silent; when that has failed, it is not.
    air.open();
    air.say(&[0, 0, 0, 2, 0x14, 0, 0]);
    let _ = std::iter::from_fn(|| air.device.poll_transmit()).count();
    assert_eq!(air.beacons(ten), 0);
    air.say(&[0, 0x0b, 2]);
    assert!(air.beacons(ten) >= 4);
}

#[test]
fn a_peer_that_acknowledges_nothing_fills_no_queue() {
    let mut air = OnAir::new();
    air.open();
    for number in 0..=0x7f_u8 {
        for content in segment(&[0x3f]) {
            let pdu = mesh_wire::bearer::pb_adv::PbAdvPdu { link_id: 1, transaction: number, content };
            air.device.handle_pdu(NOW, &Received { ad_type: AdType::PbAdv, data: &pdu.encode(), rssi: -40 });
        }
    }
    let shown = format!("{:?}", air.device);
    assert!(shown.matches("9, 3").count() <= 8, "{shown}");
}

/// MshPRT §5.4.4: the timer is two minutes from the Start on, as a user has to read or to type.
#[test]
fn who_has_to_read_or_type_has_two_minutes_at_both_ends() {
    let output = Authentication::Output { action: OutputAction::Numeric, size: 4 };
    let input = Authentication::Input { action: InputAction::Numeric, size: 4 };
    for authentication in [output, input] {
        let mut ends = Ends::new(authentication);
        ends.until(2);
        assert_eq!(ends.device.poll_timeout(), Some(NOW + PROVISIONING_TIMEOUT_WITH_USER));
        ends.run();
        for deadline in [ends.device.poll_timeout(), ends.provisioner.poll_timeout()] {
            assert_eq!(deadline, Some(NOW + PROVISIONING_TIMEOUT_WITH_USER));
        }
        ends.device.handle_timeout(NOW + PROVISIONING_TIMEOUT_WITH_USER);
        ends.provisioner.handle_timeout(NOW + PROVISIONING_TIMEOUT_WITH_USER);
        assert_eq!(ends.device.poll_close(), Some(CloseReason::Timeout));
        assert_eq!(ends.provisioner.poll_close(), Some(CloseReason::Timeout));
    }
}

/// MshPRT §5.4.2.4.3, §5.4.2.4.4: a count is 1 to 10^size - 1.
#[test]
fn a_count_of_zero_is_none() {
    let mut ends = Ends::new(Authentication::Output { action: OutputAction::Blink, size: 2 });
    ends.run();
    for (value, taken) in [(0, Err(NotAsked)), (100, Err(NotAsked)), (99, Ok(()))] {
        assert_eq!(ends.provisioner.enter_value(NOW, &OobValue::Number(value)), taken, "{value}");
    }
    let mut ends = Ends::new(Authentication::Input { action: InputAction::Twist, size: 1 });
    ends.run();
    for (value, taken) in [(0, Err(NotAsked)), (10, Err(NotAsked)), (9, Ok(()))] {
        assert_eq!(ends.device.enter_value(NOW, &OobValue::Number(value)), taken, "{value}");
    }
    // A number that is shown may be zero.
    let mut ends = Ends::new(Authentication::Input { action: InputAction::Numeric, size: 1 });
    ends.run();
    assert_eq!(ends.device.enter_value(NOW, &OobValue::Number(0)), Ok(()));
}

/// A value that everybody knows authenticates nobody, and is not to be mistaken for one that does.
#[test]
fn a_static_value_of_zeros_is_not_chosen() {
    let mut provisioner = Provisioner::new(0, [2; 32]);
    provisioner.handle_link_open(NOW);
    let capabilities = config().capabilities();
    provisioner.handle_pdu(NOW, &ProvisioningPdu::Capabilities(capabilities).encode());
    for zeros in [&[][..], &[0], &[0; 32]] {
        let choice = choice(Authentication::Static(AuthValue::from_octets(zeros)));
        assert_eq!(provisioner.choose(NOW, choice), Err(ChoiceError::ZeroStaticOob));
    }
    assert_eq!(provisioner.choose(NOW, choice(Authentication::NoOob)), Ok(()));
}

/// Sizes above 8 are reserved (tables 5.24, 5.26): a provisioner ignores them, and sends none.
#[test]
fn a_size_that_is_reserved_is_not_chosen() {
    let capabilities = Capabilities { output_size: 0xff, input_size: 9, ..config().capabilities() };
    let mut provisioner = Provisioner::new(0, [2; 32]);
    provisioner.handle_link_open(NOW);
    provisioner.handle_pdu(NOW, &ProvisioningPdu::Capabilities(capabilities).encode());
    for size in [0, 9, 255] {
        let output = Authentication::Output { action: OutputAction::Numeric, size };
        let input = Authentication::Input { action: InputAction::Numeric, size };
        for authentication in [output, input] {
            assert_eq!(provisioner.choose(NOW, choice(authentication)), Err(ChoiceError::NotOffered));
        }
    }
    let eight = Authentication::Output { action: OutputAction::Numeric, size: 8 };
    assert_eq!(provisioner.choose(NOW, choice(eight)), Ok(()));
}

/// MshPRT §5.4.2.5: addresses that were sent are given, whatever becomes of the session; those that were not are not.
#[test]
fn the_host_learns_which_addresses_are_given_before_they_leave() {
    let given = |events: &[ProvisionerEvent]| {
        events.iter().find_map(|event| match event {
            ProvisionerEvent::Addresses { address, elements } => Some((*address, *elements)),
            _ => None,
        })
    };
    let mut ends = Ends::new(Authentication::NoOob);
    ends.until(6);
    assert_eq!(given(&ends.provisioner_events), None);
    ends.until(6);
    assert_eq!(given(&ends.provisioner_events), Some((data().address, 2)), "Data waits to be sent");
    ends.provisioner.handle_link_end(NOW, LinkEnd::Unacknowledged);
    assert!(matches!(ends.provisioner.poll_event(), Some(ProvisionerEvent::Failed(_))));
}

#[test]
fn a_value_that_is_not_needed_any_more_is_hidden() {
    let mut ends = Ends::new(Authentication::Input { action: InputAction::Push, size: 1 });
    ends.run();
    assert!(matches!(ends.provisioner_events.last(), Some(ProvisionerEvent::ShowValue { .. })));
    ends.provisioner.cancel();
    assert_eq!(ends.provisioner.poll_event(), Some(ProvisionerEvent::HideValue));
    let failed = ProvisionerEvent::Failed(ProvisionerFailure::Cancelled);
    assert_eq!(ends.provisioner.poll_event(), Some(failed));

    let mut ends = Ends::new(Authentication::Output { action: OutputAction::Beep, size: 1 });
    ends.run();
    assert!(matches!(ends.device_events.last(), Some(DeviceEvent::ShowValue { .. })));
    ends.device.handle_link_open(NOW);
    assert_eq!(ends.device.poll_event(), Some(DeviceEvent::HideValue));
}

#[test]
fn a_connection_that_is_gone_is_not_to_be_ended() {
    let mut device = PbGatt::new(Provisionee::new(config(), [1; 32]));
    device.handle_connected(NOW, 20);
    device.handle_pdu(NOW, &[0x83, 1]);
    assert!(device.wants_disconnect());
    device.handle_disconnected(NOW);
    assert!(!device.wants_disconnect());
}

#[test]
fn a_device_that_gave_up_beacons_again_and_can_be_provisioned() {
    let device = Provisionee::new(config(), [1; 32]);
    let settings = PbAdvConfig::default();
    let mut air = Air::new(
        PbAdv::device(NOW, device, beacon(), settings, [1; 32]),
        PbAdv::open(NOW, Provisioner::new(5, [2; 32]), UUID, settings, [2; 32]),
        0,
        0,
    );
    let minutes = Duration::from_secs(600);
    assert!(air.run(minutes, |air| !air.provisioner_events.is_empty()));
    let now = air.now;
    air.device.with_protocol(now, |device| device.give_up(GiveUp::OutOfResources));
    assert!(air.run(minutes, |air| air.is_over() && !air.device.is_linked()));
    let code = ErrorCode::OutOfResources;
    let failed = ProvisionerEvent::Failed(ProvisionerFailure::Device(code));
    assert_eq!(air.provisioner_events.last(), Some(&failed));
    air.device_events.clear();
    air.provisioner_events.clear();
    air.provisioner = PbAdv::open(air.now, Provisioner::new(5, [3; 32]), UUID, settings, [3; 32]);
    assert!(air.run(minutes, |air| {
        let now = air.now;
        if !air.provisioner_events.is_empty() {
            let _ = air.provisioner.with_protocol(now, |x| x.choose(now, choice(Authentication::NoOob)));
        }
        air.is_over()
    }));
    assert!(air.device_result().unwrap().is_ok());
}
