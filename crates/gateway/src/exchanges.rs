//! Requests on the air: each is repeated until its answer comes or the last attempt has had its time.
//!
//! Airtime is the scarce resource of a mesh, so that few requests are under way at once, a person's go
//! before the gateway's own, and a newer request to the same state replaces one that still waits.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use clock::{Instant, Timers};
use mesh_wire::address::UnicastAddress;

/// Requests that may wait for an answer at the same time, over the whole mesh.
const MAX_ACTIVE: usize = 4;

/// Requests of the gateway's own that may wait for an answer at the same time.
const MAX_ACTIVE_BACKGROUND: usize = 1;

/// Requests that may wait for their turn; one more is refused.
const MAX_WAITING: usize = 1_000;

/// What a request is about. There is at most one active and one waiting request for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subject {
    pub(crate) address: UnicastAddress,
    pub(crate) kind: Kind,
}

/// The kinds of request, each with its own answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Generic OnOff Set.
    Set,
    /// Generic OnOff Get.
    Get,
    /// Config Composition Data Get.
    Composition,
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
    pub(crate) owner: T,
}

#[derive(Debug)]
struct Active<T> {
    request: Request<T>,
    attempts: u32,
    started: Instant,
}

/// A request that ended, with or without its answer.
#[derive(Debug)]
pub(crate) struct Ended<T> {
    pub(crate) request: Request<T>,
    pub(crate) attempts: u32,
    pub(crate) took: Duration,
}

/// What [`Exchanges::submit`] did with a request.
#[derive(Debug)]
pub(crate) enum Submitted<T> {
    /// It is on its way, or waits for its turn.
    Accepted,
    /// The same, and this older one, which still waited, was dropped for it.
    Replaced(Request<T>),
    /// There is no room; the request comes back.
    Full(Request<T>),
}

/// All requests of the gateway.
#[derive(Debug)]
pub(crate) struct Exchanges<T> {
    active: BTreeMap<Subject, Active<T>>,
    waiting: VecDeque<Request<T>>,
    timers: Timers<Subject>,
    transmit: VecDeque<(Subject, Vec<u8>)>,
    retries: u64,
}

impl Kind {
    /// How long each attempt waits for its answer. Their sum is when the gateway gives up.
    fn patience(self) -> &'static [Duration] {
        const fn ms(ms: u64) -> Duration {
            Duration::from_millis(ms)
        }
        match self {
            Self::Set | Self::Get => &const { [ms(700), ms(1_000), ms(1_400), ms(2_000), ms(2_800)] },
            // The answer comes in segments, which have repetitions of their own.
            Self::Composition => &const { [ms(3_000), ms(4_000), ms(6_000)] },
        }
    }
}

impl<T> Exchanges<T> {
    pub(crate) fn new() -> Self {
        Self {
            active: BTreeMap::new(),
            waiting: VecDeque::new(),
            timers: Timers::new(),
            transmit: VecDeque::new(),
            retries: 0,
        }
    }

    /// Sends `request` now or as soon as there is airtime for it.
    pub(crate) fn submit(&mut self, now: Instant, request: Request<T>) -> Submitted<T> {
        let same = self.waiting.iter().position(|waiting| waiting.subject == request.subject);
        let outcome = if let Some(index) = same {
            Submitted::Replaced(std::mem::replace(&mut self.waiting[index], request))
        } else if self.waiting.len() == MAX_WAITING {
            return Submitted::Full(request);
        } else {
            self.waiting.push_back(request);
            Submitted::Accepted
        };
        self.start_waiting(now);
        outcome
    }

    /// The owner of the active or waiting request about `subject`, to be looked at or added to.
    pub(crate) fn owner_mut(&mut self, subject: Subject) -> Option<&mut T> {
        if let Some(active) = self.active.get_mut(&subject) {
            return Some(&mut active.request.owner);
        }
        self.waiting.iter_mut().find(|request| request.subject == subject).map(|request| &mut request.owner)
    }

    /// The owner of the active request about `subject`.
    pub(crate) fn active_owner(&self, subject: Subject) -> Option<&T> {
        self.active.get(&subject).map(|active| &active.request.owner)
    }

    /// Ends the active request about `subject`, whose answer has come.
    pub(crate) fn answered(&mut self, now: Instant, subject: Subject) -> Option<Ended<T>> {
        let ended = self.end(now, subject)?;
        self.start_waiting(now);
        Some(ended)
    }

    /// Repeats what is due, and returns one request that has run out of attempts. Call it until it
    /// returns `None`.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<Ended<T>> {
        while let Some(subject) = self.timers.pop_expired(now) {
            let Some(active) = self.active.get_mut(&subject) else { continue };
            let patience = subject.kind.patience();
            let attempt = usize::try_from(active.attempts).unwrap_or(usize::MAX);
            if let Some(&wait) = patience.get(attempt) {
                active.attempts += 1;
                self.retries += 1;
                self.transmit.push_back((subject, active.request.payload.clone()));
                self.timers.set(subject, now + wait);
            } else {
                let ended = self.end(now, subject);
                self.start_waiting(now);
                return ended;
            }
        }
        None
    }

    /// When [`Exchanges::handle_timeout`] is next due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The next request to put on the air: whom it goes to and what it says.
    pub(crate) fn poll_transmit(&mut self) -> Option<(Subject, Vec<u8>)> {
        self.transmit.pop_front()
    }

    /// Attempts beyond the first, since the start.
    pub(crate) fn retries(&self) -> u64 {
        self.retries
    }

    fn end(&mut self, now: Instant, subject: Subject) -> Option<Ended<T>> {
        let Active { request, attempts, started } = self.active.remove(&subject)?;
        self.timers.cancel(&subject);
        Some(Ended { request, attempts, took: now - started })
    }

    fn start_waiting(&mut self, now: Instant) {
        while let Some(index) = self.next_to_start() {
            let Some(request) = self.waiting.remove(index) else { return };
            let subject = request.subject;
            self.transmit.push_back((subject, request.payload.clone()));
            self.timers.set(subject, now + subject.kind.patience()[0]);
            self.active.insert(subject, Active { request, attempts: 1, started: now });
        }
    }

    fn next_to_start(&self) -> Option<usize> {
        if self.active.len() >= MAX_ACTIVE {
            return None;
        }
        let is_free = |request: &Request<T>| !self.active.contains_key(&request.subject);
        let of = |priority| {
            self.waiting.iter().position(|request| request.priority == priority && is_free(request))
        };
        let background = self.active.values().filter(|x| x.request.priority == Priority::Background).count();
        of(Priority::Person)
            .or_else(|| (background < MAX_ACTIVE_BACKGROUND).then(|| of(Priority::Background)).flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(address: u16, priority: Priority, owner: char) -> Request<char> {
        let address = UnicastAddress::new(address).unwrap();
        let kind = if priority == Priority::Person { Kind::Set } else { Kind::Composition };
        Request { subject: Subject { address, kind }, priority, payload: vec![0], owner }
    }

    fn sent(exchanges: &mut Exchanges<char>) -> Vec<u16> {
        std::iter::from_fn(|| exchanges.poll_transmit()).map(|(subject, _)| subject.address.into()).collect()
    }

    #[test]
    fn a_request_is_repeated_and_then_given_up() {
        let mut exchanges = Exchanges::new();
        let mut now = Instant::ORIGIN;
        exchanges.submit(now, request(1, Priority::Person, 'a'));
        let mut transmissions = sent(&mut exchanges).len();
        let ended = loop {
            now = exchanges.poll_timeout().unwrap();
            if let Some(ended) = exchanges.handle_timeout(now) {
                break ended;
            }
            transmissions += sent(&mut exchanges).len();
        };
        assert_eq!((ended.attempts, transmissions, exchanges.retries()), (5, 5, 4));
        assert_eq!(ended.took, Duration::from_millis(7_900));
        assert_eq!(exchanges.poll_timeout(), None);
    }

    #[test]
    fn a_newer_command_replaces_the_one_that_waits_but_not_the_one_on_the_air() {
        let mut exchanges = Exchanges::new();
        let now = Instant::ORIGIN;
        assert!(matches!(exchanges.submit(now, request(1, Priority::Person, 'a')), Submitted::Accepted));
        assert!(matches!(exchanges.submit(now, request(1, Priority::Person, 'b')), Submitted::Accepted));
        let replaced = exchanges.submit(now, request(1, Priority::Person, 'c'));
        assert!(matches!(replaced, Submitted::Replaced(Request { owner: 'b', .. })));
        assert_eq!(sent(&mut exchanges), [1]);
        let subject = request(1, Priority::Person, 'x').subject;
        assert_eq!(exchanges.answered(now, subject).unwrap().request.owner, 'a');
        assert_eq!(sent(&mut exchanges), [1]);
        assert_eq!(exchanges.active_owner(subject), Some(&'c'));
    }

    #[test]
    fn a_person_goes_before_the_gateways_own_requests_and_both_have_limits() {
        let mut exchanges = Exchanges::new();
        let now = Instant::ORIGIN;
        for address in 1..=3 {
            exchanges.submit(now, request(address, Priority::Background, 'b'));
        }
        for address in 11..=15 {
            exchanges.submit(now, request(address, Priority::Person, 'p'));
        }
        assert_eq!(sent(&mut exchanges), [1, 11, 12, 13]);
        exchanges.answered(now, request(11, Priority::Person, 'p').subject);
        assert_eq!(sent(&mut exchanges), [14]);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut exchanges = Exchanges::new();
        let now = Instant::ORIGIN;
        let accepted = (1..=2_000)
            .filter(|&address| {
                matches!(exchanges.submit(now, request(address, Priority::Person, 'p')), Submitted::Accepted)
            })
            .count();
        assert_eq!(accepted, MAX_ACTIVE + MAX_WAITING);
    }
}
