use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::time::Duration;

use clock::Instant;
use mesh_wire::access::Opcode;
use mesh_wire::foundation::{FaultStatus, HealthMessage};
use mesh_wire::{CompanyId, DecodeError, ModelId};

use crate::access::{Context, Periodic, Place, ReceivedMessage, Server};

/// Most faults in a message: what is left of 380 octets.
const MAX_FAULTS: usize = 376;

/// The shortest time between two publications of faults.
const SHORTEST_PERIOD: Duration = Duration::from_millis(100);

/// A test of a device: gets the number of the test, and returns the faults that it finds.
pub type FaultTest = Box<dyn FnMut(u8) -> Vec<u8> + Send + Sync>;

/// The Health Server (MshPRT §4.4.3): what is wrong with an element, and how it draws attention to itself.
///
/// Faults that are there now are published, faster than the publication says while there are any; those that were
/// there once are kept until a client clears them.
pub struct HealthServer {
    company: CompanyId,
    /// The company's tests; those with other numbers are not run.
    tests: Vec<u8>,
    test: FaultTest,
    last_test: u8,
    current: BTreeSet<u8>,
    registered: BTreeSet<u8>,
    fast_period_divisor: u8,
    attention_until: Option<Instant>,
}

impl core::fmt::Debug for HealthServer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("HealthServer").field("current", &self.current).finish_non_exhaustive()
    }
}

impl HealthServer {
    /// A server of a company's device that can be tested in these ways.
    pub fn new(company: CompanyId, tests: Vec<u8>, test: FaultTest) -> Self {
        Self {
            company,
            tests,
            test,
            last_test: 0,
            current: BTreeSet::new(),
            registered: BTreeSet::new(),
            fast_period_divisor: 0,
            attention_until: None,
        }
    }

    /// The device has a fault, or has it no more: 0x01 to 0x7F of the Bluetooth SIG's list, 0x80 to 0xFF its own.
    /// Clients that the server publishes to are told.
    pub fn set_fault(&mut self, fault: u8, is_there: bool, context: &mut Context) {
        let has_changed = match (fault, is_there) {
            (0, _) => false,
            (fault, true) => {
                self.registered.insert(fault);
                self.current.insert(fault)
            }
            (fault, false) => self.current.remove(&fault),
        };
        if has_changed {
            context.publish(Place::first(ModelId::HEALTH_SERVER), self.current_status());
            context.hurry(Place::first(ModelId::HEALTH_SERVER));
            context.changed();
        }
    }

    /// The faults that are there now.
    pub fn faults(&self) -> impl Iterator<Item = u8> {
        self.current.iter().copied()
    }

    /// Whether the element is drawing attention to itself.
    pub fn is_drawing_attention(&self, now: Instant) -> bool {
        self.attention_s(now) > 0
    }

    /// Has the element draw attention to itself for so many seconds, as an invitation to provisioning does.
    pub fn draw_attention(&mut self, now: Instant, seconds: u8, context: &mut Context) {
        self.attention_until = (seconds > 0).then(|| now + Duration::from_secs(seconds.into()));
        context.changed();
    }

    /// The Attention Timer: seconds that are left, begun ones included.
    fn attention_s(&self, now: Instant) -> u8 {
        let left = self.attention_until.map_or(Duration::ZERO, |until| until - now);
        u8::try_from(left.as_micros().div_ceil(1_000_000)).unwrap_or(u8::MAX)
    }

    fn status(&self, faults: &BTreeSet<u8>) -> FaultStatus {
        FaultStatus {
            test_id: self.last_test,
            company: self.company,
            faults: faults.iter().copied().take(MAX_FAULTS).collect(),
        }
    }

    fn current_status(&self) -> Vec<u8> {
        HealthMessage::CurrentStatus(self.status(&self.current)).encode()
    }

    fn run_test(&mut self, number: u8) {
        self.last_test = number;
        let found = (self.test)(number);
        self.registered.extend(found.into_iter().filter(|&fault| fault != 0));
    }

    /// What a message has the server do, and whether it is to be answered; `None`: it is ignored.
    fn carry_out(
        &mut self,
        now: Instant,
        message: &HealthMessage,
        context: &mut Context,
    ) -> Option<HealthMessage> {
        use HealthMessage as M;
        let of_company = |company: &CompanyId| *company == self.company;
        match message {
            // A request for a company that the device is not of is ignored (§4.4.3.2).
            M::FaultGet { company } if of_company(company) => {
                Some(M::FaultStatus(self.status(&self.registered)))
            }
            M::FaultClear { company, acknowledged } if of_company(company) => {
                self.registered.clear();
                context.changed();
                acknowledged.then(|| M::FaultStatus(self.status(&self.registered)))
            }
            M::FaultTest { test_id, company, acknowledged }
                if of_company(company) && self.tests.contains(test_id) =>
            {
                self.run_test(*test_id);
                context.changed();
                acknowledged.then(|| M::FaultStatus(self.status(&self.registered)))
            }
            M::PeriodGet => Some(M::PeriodStatus { fast_period_divisor: self.fast_period_divisor }),
            M::PeriodSet { fast_period_divisor, acknowledged } => {
                self.fast_period_divisor = *fast_period_divisor;
                context.changed();
                acknowledged.then_some(M::PeriodStatus { fast_period_divisor: *fast_period_divisor })
            }
            M::AttentionGet => Some(M::AttentionStatus { attention_s: self.attention_s(now) }),
            M::AttentionSet { attention_s, acknowledged } => {
                self.draw_attention(now, *attention_s, context);
                acknowledged.then_some(M::AttentionStatus { attention_s: *attention_s })
            }
            _ => None,
        }
    }
}

impl Server for HealthServer {
    fn models(&self) -> Vec<Place> {
        Vec::from([Place::first(ModelId::HEALTH_SERVER)])
    }

    fn understands(&self, _model: ModelId, opcode: Opcode) -> bool {
        let Opcode::Two(opcode) = opcode else { return false };
        matches!(opcode, 0x8004..=0x8006 | 0x802f..=0x8036)
    }

    fn handle_message(
        &mut self,
        now: Instant,
        _place: Place,
        message: &ReceivedMessage,
        context: &mut Context,
    ) -> Result<(), DecodeError> {
        let request = HealthMessage::decode(message.opcode, &message.parameters)?;
        if let Some(answer) = self.carry_out(now, &request, context) {
            context.reply(answer.encode());
        }
        Ok(())
    }

    fn handle_timeout(&mut self, now: Instant, context: &mut Context) {
        if self.attention_until.is_some_and(|until| until <= now) {
            self.attention_until = None;
            context.changed();
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.attention_until
    }

    fn periodic(&mut self, _now: Instant, _place: Place, period: Duration) -> Periodic {
        // While there are faults the period is divided, to 100 ms at least (§4.2.9).
        let divisor = if self.current.is_empty() { 0 } else { self.fast_period_divisor };
        let next = (period / (1 << divisor)).max(SHORTEST_PERIOD);
        Periodic { payload: Some(self.current_status()), next }
    }

    /// `divisor:8 · last test:8 · registered faults`.
    fn save(&self) -> Vec<u8> {
        let mut saved = Vec::from([self.fast_period_divisor, self.last_test]);
        saved.extend(&self.registered);
        saved
    }

    fn restore(&mut self, _now: Instant, saved: &[u8]) {
        if let [divisor @ 0..=15, last_test, faults @ ..] = saved {
            self.fast_period_divisor = *divisor;
            self.last_test = *last_test;
            self.registered = faults.iter().copied().filter(|&fault| fault != 0).collect();
        }
    }
}
