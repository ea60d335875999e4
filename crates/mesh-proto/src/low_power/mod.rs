//! The Low Power feature (MshPRT §3.6.6.4): sleeps, and asks its Friend from time to time what there is. It decides
//! what is sent and when the radio listens; the node secures it, and takes the sequence numbers.

mod friendship;
mod settings;

use alloc::collections::{BTreeSet, VecDeque};
use core::cmp::Reverse;
use core::time::Duration;

use clock::{Instant, Timers};
use mesh_crypto::FriendshipParameters;
use mesh_wire::NetKeyIndex;
use mesh_wire::address::{Address, GroupAddress, UnicastAddress};
use mesh_wire::friendship::{FriendOffer, FriendRequest, FriendshipMessage};
use rand_chacha::ChaCha8Rng;
use rand_core::Rng as _;

use crate::discard::Discard;
use crate::keys::Credentials;
use crate::network::{Arrived, LowPowerLink};
use friendship::{Friendship, Progress};

pub use settings::{LowPowerSettings, LowPowerSettingsError};

/// How long after a Friend Request offers are listened for; the first come after 100 ms.
const OFFERS_END: Duration = Duration::from_millis(1100);

/// Two Friend Requests are further apart than this (MshPRT §3.6.6.4.1).
const MIN_BETWEEN_REQUESTS: Duration = Duration::from_millis(1100);

/// How long after the first offer that will do others may still come; it holds for a second.
const OFFERS_COMPARED: Duration = Duration::from_millis(300);

/// The longest pause between two Friend Requests that nobody answers.
const MAX_PAUSE: Duration = Duration::from_secs(32);

/// Friend Polls to a Friend that was chosen, before another is looked for.
const POLLS_TO_ESTABLISH: u32 = 6;

/// How often a node that has enough tells its Friend.
const CLEARS: u32 = 3;

/// How long it waits for an answer to that.
const CLEAR_REPEAT: Duration = Duration::from_secs(1);

/// Time between two Friend Polls while acknowledgments of this node's own segments are waited for.
const HURRIED_POLL: Duration = Duration::from_millis(150);

/// What the node has to do.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send a message from the primary element.
    Send {
        /// Under this material.
        credentials: Credentials,
        /// To this address, with TTL 0.
        dst: Address,
        /// This.
        message: FriendshipMessage,
    },
    /// Derive the material of a friendship that is about to begin.
    Chosen(FriendshipParameters),
    /// The friendship has begun.
    Established(UnicastAddress),
    /// Forget the material of a friendship that is over, or did not begin.
    Forget(FriendshipParameters),
    /// The friendship is over.
    Ended(UnicastAddress),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// Look for a Friend.
    Request,
    /// No more offers are waited for.
    Choose,
    /// The Receive Delay is over.
    Listen,
    /// The Receive Window is over.
    Unanswered,
    /// Ask the Friend.
    Ask,
    /// The Poll Timeout is over.
    Lost,
    /// Tell the Friend once more that it is over.
    Clear,
}

#[derive(Clone, Debug)]
enum State {
    Off,
    /// Without a Friend: it listens, as its keys and IV Index may be out of date.
    Alone,
    /// A Friend Request was sent with this LPNCounter; the best offer so far.
    Requested(u16, Option<(UnicastAddress, FriendOffer)>),
    Friends(Friendship),
    /// The Friend is told that it is over: it, the LPNCounter, and how often it is still told.
    Leaving(UnicastAddress, u16, u32),
}

/// The Low Power feature of a node, in one subnet.
#[derive(Clone, Debug)]
pub struct LowPower {
    settings: LowPowerSettings,
    address: UnicastAddress,
    elements: u8,
    /// LPNCounter.
    counter: u16,
    previous: Option<UnicastAddress>,
    /// When the last Friend Request was sent.
    requested: Option<Instant>,
    /// Friend Requests in a row that came to nothing.
    failures: u32,
    /// What the node listens to, beside its own elements.
    wanted: BTreeSet<Address>,
    state: State,
    timers: Timers<Timer>,
    outputs: VecDeque<Output>,
    rng: ChaCha8Rng,
}

impl LowPower {
    /// The feature of a node with so many elements from `address` on. It is off.
    pub fn new(address: UnicastAddress, elements: u8, settings: LowPowerSettings, rng: ChaCha8Rng) -> Self {
        Self {
            settings,
            address,
            elements,
            counter: 0,
            previous: None,
            requested: None,
            failures: 0,
            wanted: BTreeSet::new(),
            state: State::Off,
            timers: Timers::new(),
            outputs: VecDeque::new(),
            rng,
        }
    }

    /// The subnet in which it has a Friend.
    pub fn subnet(&self) -> NetKeyIndex {
        self.settings.net_key_index
    }

    /// The Friend, if there is one.
    pub fn friend(&self) -> Option<UnicastAddress> {
        self.established().map(|friendship| friendship.friend)
    }

    /// The material of the friendship, if there is one.
    pub fn credentials(&self) -> Option<Credentials> {
        self.established().map(Friendship::credentials)
    }

    fn established(&self) -> Option<&Friendship> {
        match &self.state {
            State::Friends(friendship) if friendship.is_established => Some(friendship),
            _ => None,
        }
    }

    /// What is heard in its subnet: everything, unless there is a Friend, or one was chosen.
    pub(crate) fn link(&self) -> Option<LowPowerLink> {
        let State::Friends(friendship) = &self.state else { return None };
        Some(LowPowerLink {
            net_key_index: self.settings.net_key_index,
            credentials: friendship.credentials(),
            is_waiting: friendship.is_listening,
        })
    }

    /// Whether the radio has to be on.
    pub fn is_listening(&self) -> bool {
        match &self.state {
            State::Friends(friendship) => friendship.is_listening,
            _ => true,
        }
    }

    /// Looks for a Friend, if it does not yet.
    ///
    /// # Errors
    /// Why there can be no friendship with its settings.
    pub fn switch_on(&mut self, now: Instant) -> Result<(), LowPowerSettingsError> {
        self.settings.check()?;
        if let State::Off | State::Leaving(..) = self.state {
            self.timers = Timers::new();
            self.failures = 0;
            self.look(now, Duration::ZERO);
        }
        Ok(())
    }

    /// Ends the friendship, and looks for no other.
    pub fn switch_off(&mut self) {
        if let State::Leaving(..) = self.state {
            return;
        }
        self.timers = Timers::new();
        if let State::Friends(friendship) = core::mem::replace(&mut self.state, State::Off) {
            self.forget(&friendship);
            // For the Friend it begins with the first Friend Poll, whose answer may be lost or on its way.
            self.state = State::Leaving(friendship.friend, friendship.parameters.lpn_counter, CLEARS);
            self.timers.set(Timer::Clear, Instant::ORIGIN);
        }
    }

    /// Asks the Friend now, unless an answer is being waited for.
    pub fn poll(&mut self, now: Instant) {
        if self.timers.get(&Timer::Ask).is_some() {
            self.timers.set(Timer::Ask, now);
        }
    }

    /// Asks soon, as acknowledgments are waited for.
    pub fn hurry(&mut self, now: Instant) {
        let soon = now + HURRIED_POLL;
        if self.timers.get(&Timer::Ask).is_some_and(|at| at > soon) {
            self.timers.set(Timer::Ask, soon);
        }
    }

    /// Tells what the node listens to: its Friend is told of changes.
    pub fn listen_to(&mut self, now: Instant, addresses: impl IntoIterator<Item = Address>) {
        let wanted: BTreeSet<Address> = addresses.into_iter().collect();
        if wanted != self.wanted {
            self.wanted = wanted;
            self.poll(now);
        }
    }

    /// Whether a PDU is what the Friend itself says to this node.
    pub fn is_word_of_friend(&self, arrived: &Arrived) -> bool {
        let State::Friends(friendship) = &self.state else { return false };
        arrived.net_key_index == self.settings.net_key_index && friendship.is_word_of_friend(arrived)
    }

    /// Takes an offer, or a confirmation, that is for the Low Power node.
    ///
    /// # Errors
    /// Why nothing comes of it.
    pub fn receive(
        &mut self,
        now: Instant,
        arrived: &Arrived,
        message: FriendshipMessage,
    ) -> Result<(), Discard> {
        if arrived.net_key_index != self.settings.net_key_index {
            return Err(Discard::Friendship);
        }
        let is_flooding = arrived.credentials == Credentials::Flooding;
        match (message, &mut self.state) {
            (FriendshipMessage::Offer(offer), State::Requested(..))
                if is_flooding && arrived.is_of_neighbour_to(self.address) =>
            {
                self.compare(now, arrived.pdu.src, offer);
                Ok(())
            }
            (FriendshipMessage::ClearConfirm { lpn, lpn_counter }, State::Leaving(friend, counter, _))
                if is_flooding
                    && (arrived.pdu.src, arrived.pdu.dst) == (*friend, self.address.into())
                    && (lpn, lpn_counter) == (self.address, *counter) =>
            {
                self.state = State::Off;
                self.timers = Timers::new();
                Ok(())
            }
            (FriendshipMessage::SubscriptionListConfirm { transaction }, State::Friends(friendship))
                if friendship.is_word_of_friend(arrived) =>
            {
                if !friendship.confirm(transaction) {
                    return Err(Discard::Friendship);
                }
                self.go_on(now, Progress::More);
                Ok(())
            }
            _ => Err(Discard::Friendship),
        }
    }

    /// Holds an offer against the best so far.
    fn compare(&mut self, now: Instant, friend: UnicastAddress, offer: FriendOffer) {
        let rank = self.rank(&offer);
        let State::Requested(lpn_counter, best) = &self.state else { return };
        if best.as_ref().is_none_or(|(_, best)| rank < self.rank(best)) {
            self.state = State::Requested(*lpn_counter, Some((friend, offer)));
        }
        let end = now + OFFERS_COMPARED;
        if self.timers.get(&Timer::Choose).is_some_and(|at| at > end) {
            self.timers.set(Timer::Choose, end);
        }
    }

    /// How good an offer is; the less, the better. A queue that is shorter than what was asked for is the last choice:
    /// the Friend of the sample data has one. What is not in the Friend Subscription List is never heard, so that comes
    /// next: how many addresses it has no room for. Then what the radio costs and how sure an answer is, as the
    /// criteria weigh ReceiveWindow and RSSI (§3.6.6.3.1). A longer queue decides between equals.
    fn rank(&self, offer: &FriendOffer) -> (bool, usize, i32, Reverse<u8>) {
        let is_short = offer.queue_size < self.settings.criteria.min_queue_size();
        let left_out = self.wanted.len().saturating_sub(offer.subscription_list_size.into());
        let rssi = if offer.rssi == FriendOffer::RSSI_UNKNOWN { i8::MIN } else { offer.rssi };
        let delay = self.settings.criteria.local_delay_ms(offer.receive_window_ms, rssi);
        (is_short, left_out, delay, Reverse(offer.queue_size))
    }

    /// Takes note of whatever came under the material of the friendship: it may be what was asked for.
    pub fn note(&mut self, now: Instant, arrived: &Arrived) {
        let State::Friends(friendship) = &mut self.state else { return };
        let is_of_subnet = arrived.net_key_index == self.settings.net_key_index;
        if !is_of_subnet || arrived.credentials != friendship.credentials() {
            return;
        }
        let was_established = friendship.is_established;
        let Some(progress) = friendship.note(arrived) else { return };
        let friend = friendship.friend;
        if !was_established {
            self.failures = 0;
            self.outputs.push_back(Output::Established(friend));
        }
        self.go_on(now, progress);
    }

    /// The Friend has answered: the next question comes at once, or when it is time.
    fn go_on(&mut self, now: Instant, progress: Progress) {
        let State::Friends(friendship) = &mut self.state else { return };
        self.timers.cancel(&Timer::Listen);
        self.timers.cancel(&Timer::Unanswered);
        let has_changes = friendship.list_change(&self.wanted).is_some();
        let at = match progress {
            Progress::Nothing if !has_changes => now + friendship.pause(&self.settings),
            _ => now,
        };
        self.timers.set(Timer::Lost, friendship.answered + self.settings.poll_timeout.duration());
        self.timers.set(Timer::Ask, at);
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.pop_expired(now) {
            match timer {
                Timer::Request => self.request(now),
                Timer::Choose => self.choose(now),
                Timer::Listen => {
                    if let State::Friends(friendship) = &mut self.state {
                        friendship.is_listening = true;
                    }
                }
                Timer::Unanswered => self.miss(now),
                Timer::Ask => self.ask(now),
                Timer::Lost => self.lose(now),
                Timer::Clear => self.clear(now),
            }
        }
    }

    /// When [`LowPower::handle_timeout`] is next due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// What the node has to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Looks for a Friend after `pause` and a random time, so that nodes that lost theirs together do not ask together.
    fn look(&mut self, now: Instant, pause: Duration) {
        self.state = State::Alone;
        let earliest = self.requested.map_or(now, |at| at + MIN_BETWEEN_REQUESTS);
        let jitter = Duration::from_millis(u64::from(100 + self.rng.next_u32() % 400));
        self.timers.set(Timer::Request, (now + pause).max(earliest) + jitter);
    }

    fn request(&mut self, now: Instant) {
        let request = FriendRequest {
            criteria: self.settings.criteria,
            receive_delay_ms: self.settings.receive_delay_ms,
            poll_timeout: self.settings.poll_timeout,
            previous: self.previous,
            elements: self.elements,
            lpn_counter: self.counter,
        };
        self.requested = Some(now);
        self.state = State::Requested(self.counter, None);
        self.counter = self.counter.wrapping_add(1);
        self.outputs.push_back(Output::Send {
            credentials: Credentials::Flooding,
            dst: Address::Group(GroupAddress::ALL_FRIENDS),
            message: FriendshipMessage::Request(request),
        });
        self.timers.set(Timer::Choose, now + OFFERS_END);
    }

    fn choose(&mut self, now: Instant) {
        let State::Requested(lpn_counter, best) = self.state else { return };
        let Some((friend, offer)) = best else {
            self.fail(now);
            return;
        };
        let parameters = FriendshipParameters {
            lpn_address: self.address.into(),
            friend_address: friend.into(),
            lpn_counter,
            friend_counter: offer.friend_counter,
        };
        self.outputs.push_back(Output::Chosen(parameters));
        self.state = State::Friends(Friendship::new(friend, offer, parameters));
        self.ask(now);
    }

    fn fail(&mut self, now: Instant) {
        let pause = Duration::from_secs(1 << self.failures.min(5)).min(MAX_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.look(now, pause);
    }

    fn ask(&mut self, now: Instant) {
        let State::Friends(friendship) = &mut self.state else { return };
        let message = friendship.ask(now, &self.wanted);
        let credentials = friendship.credentials();
        let dst = Address::Unicast(friendship.friend);
        let (from, to) = friendship.window(now, self.settings.receive_delay());
        self.timers.set(Timer::Listen, from);
        self.timers.set(Timer::Unanswered, to);
        self.outputs.push_back(Output::Send { credentials, dst, message });
    }

    fn miss(&mut self, now: Instant) {
        let State::Friends(friendship) = &mut self.state else { return };
        let pause = friendship.miss();
        if !friendship.is_established && friendship.misses >= POLLS_TO_ESTABLISH {
            if let State::Friends(friendship) = core::mem::replace(&mut self.state, State::Alone) {
                self.forget(&friendship);
                // It may have heard the polls; the next Friend tells the last one that answered, not this.
                self.send_clear(friendship.friend, friendship.parameters.lpn_counter);
            }
            self.fail(now);
            return;
        }
        self.timers.set(Timer::Ask, now + pause);
    }

    fn lose(&mut self, now: Instant) {
        if let State::Friends(friendship) = core::mem::replace(&mut self.state, State::Alone) {
            self.timers = Timers::new();
            self.forget(&friendship);
            self.look(now, Duration::ZERO);
        }
    }

    fn forget(&mut self, friendship: &Friendship) {
        self.outputs.push_back(Output::Forget(friendship.parameters));
        if friendship.is_established {
            self.previous = Some(friendship.friend);
            self.outputs.push_back(Output::Ended(friendship.friend));
        }
    }

    fn clear(&mut self, now: Instant) {
        let State::Leaving(friend, lpn_counter, times) = self.state else { return };
        let Some(left) = times.checked_sub(1) else {
            self.state = State::Off;
            return;
        };
        self.state = State::Leaving(friend, lpn_counter, left);
        self.send_clear(friend, lpn_counter);
        self.timers.set(Timer::Clear, now + CLEAR_REPEAT);
    }

    fn send_clear(&mut self, friend: UnicastAddress, lpn_counter: u16) {
        self.outputs.push_back(Output::Send {
            credentials: Credentials::Flooding,
            dst: Address::Unicast(friend),
            message: FriendshipMessage::Clear { lpn: self.address, lpn_counter },
        });
    }
}
