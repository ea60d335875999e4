//! The airtime of the mesh, and who gets it when. Everything that the gateway sends goes through here.
//!
//! Airtime is the scarce resource of a mesh: of the order of ten messages a second for a whole neighbourhood. So
//! there is a budget; a person's commands go before the gateway's own questions; a newer command to the same
//! destination replaces one that still waits and says nothing else; and each request is repeated, ever more rarely,
//! until its answer comes or its time is over.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use clock::{Instant, Timers};
use mesh_wire::access::Opcode;
use mesh_wire::address::Address;

use crate::facts::Facts;

/// Requests that may wait for an answer at the same time, over the whole mesh.
const MAX_ACTIVE: usize = 6;

/// Requests of the gateway's own that may wait for an answer at the same time.
const MAX_ACTIVE_BACKGROUND: usize = 2;

/// Requests that may wait for their turn; one more is refused.
const MAX_WAITING: usize = 4_096;

/// How long a command to a group has to reach its members before they are asked one by one.
pub(crate) const GROUP_SETTLES: Duration = Duration::from_millis(1_000);

/// How much may be sent: a token bucket of network PDUs, whatever they are for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Airtime {
    /// PDUs a second, for as long as one likes. Each is repeated by the network layer and by every relay.
    pub per_second: f64,
    /// PDUs that may be sent at once after a silence. Half of them are kept for people.
    pub burst: f64,
}

/// What a request is about. At most one request about each is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subject {
    /// An element or a group.
    pub(crate) destination: Address,
    pub(crate) lane: Lane,
}

/// What requests to the same destination do not get in each other's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// To change states. The answer says what they are.
    Set,
    /// The question of this opcode.
    Get(Opcode),
    /// To the Configuration Server of a node.
    Configure,
}

/// Who waits for a request: a person, or the gateway itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Priority {
    Person,
    Background,
}

/// A request, with what its owner needs when it ends.
#[derive(Debug)]
pub(crate) struct Request<T> {
    pub(crate) subject: Subject,
    pub(crate) priority: Priority,
    /// Opcode and parameters.
    pub(crate) payload: Vec<u8>,
    /// The states that it sets.
    pub(crate) wanted: Facts,
    pub(crate) owner: T,
}

#[derive(Debug)]
struct Active<T> {
    request: Request<T>,
    attempts: u32,
    started: Instant,
    /// Whether the next attempt is due and waits for airtime.
    is_due: bool,
}

/// A request that ended, with or without its answer.
#[derive(Debug)]
pub(crate) struct Ended<T> {
    pub(crate) request: Request<T>,
    pub(crate) attempts: u32,
    pub(crate) took: Duration,
    /// Whether it was given up because a newer one says all that it says.
    pub(crate) is_superseded: bool,
}

/// What [`Scheduler::submit`] did with a request.
#[derive(Debug)]
pub(crate) enum Submitted<T> {
    /// It is on its way, or waits for its turn.
    Accepted,
    /// The same, and these older ones, which still waited, were dropped for it.
    Replaced(Vec<Request<T>>),
    /// There is no room; the request comes back.
    Full(Request<T>),
}

/// All requests of the gateway.
#[derive(Debug)]
pub(crate) struct Scheduler<T> {
    active: BTreeMap<Subject, Active<T>>,
    waiting: VecDeque<Request<T>>,
    timers: Timers<Subject>,
    airtime: Airtime,
    tokens: f64,
    refilled: Instant,
    /// PDUs that were paid for when their message began, and have not been sent yet.
    prepaid: u32,
    retries: u64,
    pdus: u64,
}

impl Default for Airtime {
    fn default() -> Self {
        Self { per_second: 8.0, burst: 12.0 }
    }
}

impl Subject {
    /// How long each attempt waits for its answer. Their sum is when the gateway gives up.
    pub(crate) fn patience(self) -> &'static [Duration] {
        const fn ms(ms: u64) -> Duration {
            Duration::from_millis(ms)
        }
        match (self.lane, self.destination) {
            // Nobody answers; the members publish what they have become.
            (_, Address::Group(_) | Address::Virtual(_)) => &const { [GROUP_SETTLES] },
            (Lane::Set | Lane::Get(_), _) => &const { [ms(700), ms(1_000), ms(1_400), ms(2_000), ms(2_800)] },
            // The answer may come in segments, which have repetitions of their own.
            (Lane::Configure, _) => &const { [ms(2_000), ms(3_000), ms(4_000), ms(6_000)] },
        }
    }
}

impl<T> Scheduler<T> {
    pub(crate) fn new(now: Instant, airtime: Airtime) -> Self {
        Self {
            active: BTreeMap::new(),
            waiting: VecDeque::new(),
            timers: Timers::new(),
            airtime,
            tokens: airtime.burst,
            refilled: now,
            prepaid: 0,
            retries: 0,
            pdus: 0,
        }
    }

    /// Sends `request` as soon as there is airtime for it.
    pub(crate) fn submit(&mut self, request: Request<T>) -> Submitted<T> {
        let mut replaced = Vec::new();
        if request.subject.lane == Lane::Set {
            let waiting = std::mem::take(&mut self.waiting);
            let (older, others): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|waiting| {
                waiting.subject == request.subject && request.wanted.covers(&waiting.wanted)
            });
            self.waiting = others.into();
            replaced = older;
        }
        if self.waiting.len() >= MAX_WAITING {
            return Submitted::Full(request);
        }
        self.waiting.push_back(request);
        if replaced.is_empty() { Submitted::Accepted } else { Submitted::Replaced(replaced) }
    }

    /// The owner of the active or waiting question about `subject`, to be looked at or added to.
    pub(crate) fn owner_mut(&mut self, subject: Subject) -> Option<&mut T> {
        if let Some(active) = self.active.get_mut(&subject) {
            return Some(&mut active.request.owner);
        }
        self.waiting.iter_mut().find(|request| request.subject == subject).map(|request| &mut request.owner)
    }

    /// Has a question that still waits go as early as a person's.
    pub(crate) fn hurry(&mut self, subject: Subject) {
        for request in self.waiting.iter_mut().filter(|request| request.subject == subject) {
            request.priority = Priority::Person;
        }
    }

    /// What the active request about `subject` wants.
    pub(crate) fn wanted(&self, subject: Subject) -> Option<&Facts> {
        self.active.get(&subject).map(|active| &active.request.wanted)
    }

    /// What further attempts of the active request about `subject` say.
    pub(crate) fn payload_mut(&mut self, subject: Subject) -> Option<&mut Vec<u8>> {
        self.active.get_mut(&subject).map(|active| &mut active.request.payload)
    }

    /// Ends the active request about `subject`, whose answer has come.
    pub(crate) fn answered(&mut self, now: Instant, subject: Subject) -> Option<Ended<T>> {
        self.end(now, subject, false)
    }

    /// Drops a question that waits, because it answered itself.
    pub(crate) fn drop_waiting(&mut self, subject: Subject) -> Option<Request<T>> {
        let index = self.waiting.iter().position(|request| request.subject == subject)?;
        self.waiting.remove(index)
    }

    /// Takes back the commands about `subject` that something newer, which `wanted` says, replaces.
    pub(crate) fn withdraw(&mut self, now: Instant, subject: Subject, wanted: &Facts) -> Vec<Ended<T>> {
        let waiting = std::mem::take(&mut self.waiting);
        let (older, others): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|x| x.subject == subject && wanted.replaces(&x.wanted));
        self.waiting = others.into();
        let ended = |request| Ended { request, attempts: 0, took: Duration::ZERO, is_superseded: true };
        let mut withdrawn: Vec<Ended<T>> = older.into_iter().map(ended).collect();
        if self.wanted(subject).is_some_and(|active| wanted.replaces(active)) {
            withdrawn.extend(self.end(now, subject, true));
        }
        withdrawn
    }

    /// Returns one request that has run out of attempts, or was superseded. Call it until it returns `None`.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<Ended<T>> {
        while let Some(subject) = self.timers.pop_expired(now) {
            let Some(active) = self.active.get_mut(&subject) else { continue };
            let attempt = usize::try_from(active.attempts).unwrap_or(usize::MAX);
            let is_superseded = subject.lane == Lane::Set
                && (self.waiting.iter())
                    .any(|newer| newer.subject == subject && newer.wanted.covers(&active.request.wanted));
            if is_superseded || attempt >= subject.patience().len() {
                return self.end(now, subject, is_superseded);
            }
            active.is_due = true;
        }
        None
    }

    /// When [`Scheduler::handle_timeout`] or [`Scheduler::poll_transmit`] is next due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let next = self.next().map(|(_, priority, cost)| self.affordable(priority, cost));
        [self.timers.next(), next].into_iter().flatten().min()
    }

    /// The next message to put on the air, if there is airtime: whom it goes to and what it says.
    pub(crate) fn poll_transmit(&mut self, now: Instant) -> Option<(Subject, Vec<u8>)> {
        let (turn, priority, cost) = self.next()?;
        if self.affordable(priority, cost) > now {
            return None;
        }
        self.refill(now);
        self.tokens -= cost;
        let subject = match turn {
            Turn::Again(subject) => {
                self.retries += 1;
                subject
            }
            Turn::First(index) => {
                let request = self.waiting.remove(index)?;
                let subject = request.subject;
                self.active.insert(subject, Active { request, attempts: 0, started: now, is_due: true });
                subject
            }
        };
        let active = self.active.get_mut(&subject)?;
        let attempt = usize::try_from(active.attempts).unwrap_or(usize::MAX);
        active.attempts += 1;
        active.is_due = false;
        self.prepaid += segments(&active.request.payload);
        self.timers.set(subject, now + subject.patience().get(attempt).copied().unwrap_or_default());
        Some((subject, active.request.payload.clone()))
    }

    /// Takes note that a PDU was sent: of a message that was paid for, or a repetition or an acknowledgement that
    /// the layers below owed.
    pub(crate) fn handle_sent(&mut self, now: Instant) {
        self.pdus += 1;
        match self.prepaid.checked_sub(1) {
            Some(prepaid) => self.prepaid = prepaid,
            None => {
                self.refill(now);
                self.tokens -= 1.0;
            }
        }
    }

    /// Attempts beyond the first, since the start.
    pub(crate) fn retries(&self) -> u64 {
        self.retries
    }

    /// PDUs that were sent since the start.
    pub(crate) fn pdus(&self) -> u64 {
        self.pdus
    }

    /// Requests that wait for their turn.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn end(&mut self, now: Instant, subject: Subject, is_superseded: bool) -> Option<Ended<T>> {
        let Active { request, attempts, started, .. } = self.active.remove(&subject)?;
        self.timers.cancel(&subject);
        Some(Ended { request, attempts, took: now - started, is_superseded })
    }

    fn refill(&mut self, now: Instant) {
        let gained = (now - self.refilled).as_secs_f64() * self.airtime.per_second;
        self.tokens = (self.tokens + gained).min(self.airtime.burst);
        self.refilled = now;
    }

    /// When the bucket holds enough for a message. People may empty it; the gateway's own leave half of it.
    fn affordable(&self, priority: Priority, cost: f64) -> Instant {
        let reserve = match priority {
            Priority::Person => 0.0,
            Priority::Background => self.airtime.burst / 2.0,
        };
        // What is larger than the bucket goes when the bucket is full.
        let missing = (reserve + cost).min(self.airtime.burst) - self.tokens;
        self.refilled + Duration::from_secs_f64((missing / self.airtime.per_second).max(0.0))
    }

    /// Whose turn it is, with its priority and the PDUs that it takes.
    fn next(&self) -> Option<(Turn, Priority, f64)> {
        let of = |priority| {
            let again = (self.active.iter())
                .find(|(_, active)| active.is_due && active.request.priority == priority)
                .map(|(subject, active)| (Turn::Again(*subject), priority, cost(&active.request.payload)));
            again.or_else(|| {
                let is_free = |request: &Request<T>| !self.active.contains_key(&request.subject);
                let index = (self.waiting.iter())
                    .position(|request| request.priority == priority && is_free(request))?;
                Some((Turn::First(index), priority, cost(&self.waiting[index].payload)))
            })
        };
        let background = self.active.values().filter(|x| x.request.priority == Priority::Background).count();
        let may_start = |(turn, priority, _): &(Turn, Priority, f64)| match (turn, priority) {
            (Turn::Again(_), _) => true,
            (Turn::First(_), Priority::Person) => self.active.len() - background < MAX_ACTIVE,
            (Turn::First(_), Priority::Background) => background < MAX_ACTIVE_BACKGROUND,
        };
        of(Priority::Person).filter(may_start).or_else(|| of(Priority::Background).filter(may_start))
    }
}

/// Whose turn it is: an active request's, again, or a waiting one's.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Again(Subject),
    First(usize),
}

/// The network PDUs of a message: one up to 11 octets, else segments of 12 with a TransMIC of 4 (MshPRT §3.5.3.3).
fn segments(payload: &[u8]) -> u32 {
    if payload.len() <= 11 { 1 } else { u32::try_from((payload.len() + 4).div_ceil(12)).unwrap_or(u32::MAX) }
}

fn cost(payload: &[u8]) -> f64 {
    f64::from(segments(payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AIRTIME: Airtime = Airtime { per_second: 4.0, burst: 6.0 };

    fn subject(address: u16) -> Subject {
        Subject { destination: Address::from(address), lane: Lane::Set }
    }

    fn request(address: u16, priority: Priority, lightness: u16, owner: char) -> Request<char> {
        let wanted = Facts::lightness(lightness);
        Request { subject: subject(address), priority, payload: vec![0], wanted, owner }
    }

    fn person(address: u16, owner: char) -> Request<char> {
        request(address, Priority::Person, 1, owner)
    }

    fn sent(scheduler: &mut Scheduler<char>, now: Instant) -> Vec<u16> {
        let sent = std::iter::from_fn(|| {
            let (subject, _) = scheduler.poll_transmit(now)?;
            scheduler.handle_sent(now);
            Some(subject)
        });
        sent.map(|subject| subject.destination.into()).collect()
    }

    #[test]
    fn a_request_is_repeated_and_then_given_up() {
        let mut scheduler = Scheduler::new(Instant::ORIGIN, AIRTIME);
        let mut now = Instant::ORIGIN;
        scheduler.submit(person(1, 'a'));
        let mut transmissions = sent(&mut scheduler, now).len();
        let ended = loop {
            now = scheduler.poll_timeout().unwrap();
            if let Some(ended) = scheduler.handle_timeout(now) {
                break ended;
            }
            transmissions += sent(&mut scheduler, now).len();
        };
        assert_eq!((ended.attempts, transmissions, scheduler.retries()), (5, 5, 4));
        assert_eq!(ended.took, Duration::from_millis(7_900));
        assert_eq!(scheduler.poll_timeout(), None);
    }

    #[test]
    fn a_newer_command_replaces_what_waits_and_ends_the_repetitions_of_what_is_on_the_air() {
        let mut scheduler = Scheduler::new(Instant::ORIGIN, AIRTIME);
        let now = Instant::ORIGIN;
        scheduler.submit(person(1, 'a'));
        assert_eq!(sent(&mut scheduler, now), [1]);
        assert!(matches!(scheduler.submit(person(1, 'b')), Submitted::Accepted));
        let Submitted::Replaced(older) = scheduler.submit(person(1, 'c')) else { panic!() };
        assert_eq!(older[0].owner, 'b');
        assert!(sent(&mut scheduler, now).is_empty(), "one at a time for each destination");
        let later = now + Duration::from_millis(700);
        let ended = scheduler.handle_timeout(later).unwrap();
        assert_eq!((ended.request.owner, ended.is_superseded, ended.attempts), ('a', true, 1));
        assert_eq!(sent(&mut scheduler, later), [1]);
        assert_eq!(scheduler.owner_mut(subject(1)), Some(&mut 'c'));
    }

    #[test]
    fn a_command_that_says_less_does_not_replace_one_that_says_more() {
        let mut scheduler = Scheduler::new(Instant::ORIGIN, AIRTIME);
        scheduler.submit(person(9, 'x'));
        sent(&mut scheduler, Instant::ORIGIN);
        scheduler.submit(person(9, 'a'));
        let wanted = Facts { on: Some(true), ..Facts::default() };
        assert!(matches!(scheduler.submit(Request { wanted, ..person(9, 'b') }), Submitted::Accepted));
        assert_eq!(scheduler.waiting(), 2);
    }

    #[test]
    fn a_person_goes_before_the_gateways_own_requests() {
        let mut scheduler = Scheduler::new(Instant::ORIGIN, Airtime { per_second: 1.0, burst: 100.0 });
        for address in 1..=3 {
            scheduler.submit(request(address, Priority::Background, 1, 'b'));
        }
        for address in 11..=18 {
            scheduler.submit(person(address, 'p'));
        }
        let now = Instant::ORIGIN;
        assert_eq!(sent(&mut scheduler, now), [11, 12, 13, 14, 15, 16, 1, 2]);
        scheduler.answered(now, subject(11));
        assert_eq!(sent(&mut scheduler, now), [17]);
    }

    #[test]
    fn the_budget_is_never_exceeded_and_half_of_it_is_kept_for_people() {
        let mut scheduler = Scheduler::new(Instant::ORIGIN, AIRTIME);
        for address in 1..=500 {
            scheduler.submit(request(address, Priority::Background, 1, 'b'));
        }
        let mut now = Instant::ORIGIN;
        let mut times = Vec::new();
        while times.len() < 100 {
            for address in sent(&mut scheduler, now) {
                times.push(now);
                scheduler.answered(now, subject(address));
            }
            if times.len() == 50 {
                scheduler.submit(person(1_000, 'p'));
                assert_eq!(sent(&mut scheduler, now), [1_000], "at once");
                scheduler.answered(now, subject(1_000));
                times.push(now);
            }
            now = scheduler.poll_timeout().unwrap().max(now);
        }
        for (index, from) in times.iter().enumerate() {
            for (count, until) in (1..).zip(&times[index..]) {
                let allowed = AIRTIME.burst + (*until - *from).as_secs_f64() * AIRTIME.per_second;
                assert!(f64::from(count) <= allowed + 1e-3, "{count} in {:?}", *until - *from);
            }
        }
    }

    #[test]
    fn what_the_layers_below_send_is_paid_too() {
        let mut scheduler = Scheduler::new(Instant::ORIGIN, AIRTIME);
        let now = Instant::ORIGIN;
        for _ in 0..10 {
            scheduler.handle_sent(now);
        }
        scheduler.submit(person(1, 'a'));
        assert!(sent(&mut scheduler, now).is_empty());
        let at = scheduler.poll_timeout().unwrap();
        assert_eq!(at, now + Duration::from_millis(1_250));
        assert_eq!(sent(&mut scheduler, at), [1]);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut scheduler = Scheduler::new(Instant::ORIGIN, AIRTIME);
        let accepted = (1..=5_000_u16)
            .filter(|&address| matches!(scheduler.submit(person(address, 'p')), Submitted::Accepted))
            .count();
        assert_eq!(accepted, MAX_WAITING);
    }
}
