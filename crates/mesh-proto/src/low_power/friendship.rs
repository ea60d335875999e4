use alloc::collections::{BTreeSet, VecDeque};
use core::time::Duration;

use clock::Instant;
use mesh_crypto::FriendshipParameters;
use mesh_wire::SeqAuth;
use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::friendship::{AddressList, FriendOffer, FriendshipMessage, MAX_LISTED};
use mesh_wire::lower_transport::LowerTransportPdu;

use super::LowPowerSettings;
use crate::keys::Credentials;
use crate::network::Arrived;

/// How much earlier the radio listens than an answer may come: clocks differ.
const EARLY: Duration = Duration::from_millis(10);

/// How much later it stops: an answer that is begun at the end of the window still has to arrive.
const LATE: Duration = Duration::from_millis(30);

/// Repetitions of a question without a pause.
const QUICK_REPEATS: u32 = 4;

/// The longest pause before a further one.
const MAX_PAUSE: Duration = Duration::from_secs(16);

/// PDUs of the Friend that are remembered, so that a copy is not taken for an answer.
const RECENT: usize = 64;

/// What a Low Power node has asked its Friend.
#[derive(Clone, Debug)]
enum Question {
    Poll,
    /// To change the Friend Subscription List: whether to add these addresses, or to remove them.
    Change {
        transaction: u8,
        adds: bool,
        addresses: AddressList,
    },
}

/// What an answer means for the next question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// There is more to be had.
    More,
    /// The Friend Queue is empty.
    Nothing,
}

/// A friendship as the Low Power node sees it.
#[derive(Clone, Debug)]
pub(super) struct Friendship {
    pub(super) friend: UnicastAddress,
    pub(super) parameters: FriendshipParameters,
    offer: FriendOffer,
    pub(super) is_established: bool,
    pub(super) is_listening: bool,
    /// When the last question was asked that was answered.
    pub(super) answered: Instant,
    /// Questions in a row that were not.
    pub(super) misses: u32,
    asked: Instant,
    /// FSN.
    fsn: bool,
    question: Option<Question>,
    /// Whether the Friend has said that it has nothing more.
    is_drained: bool,
    /// What came last: a late copy of it is no answer to a later question.
    recent: VecDeque<(UnicastAddress, SeqAuth)>,
    /// Of the last Friend Update that was taken: those of a Friend come in their order.
    updated: Option<SeqAuth>,
    /// TransactionNumber of the next change.
    transaction: u8,
    /// The Friend Subscription List, as far as it is confirmed.
    confirmed: BTreeSet<Address>,
}

impl Friendship {
    pub(super) fn new(friend: UnicastAddress, offer: FriendOffer, parameters: FriendshipParameters) -> Self {
        Self {
            friend,
            parameters,
            offer,
            is_established: false,
            is_listening: false,
            answered: Instant::ORIGIN,
            misses: 0,
            asked: Instant::ORIGIN,
            fsn: false,
            question: None,
            is_drained: true,
            recent: VecDeque::new(),
            updated: None,
            transaction: 0,
            confirmed: BTreeSet::new(),
        }
    }

    pub(super) fn credentials(&self) -> Credentials {
        Credentials::Friendship(self.parameters)
    }

    /// Whether a PDU is the Friend's own word to this node, and nothing that it stores for others, or that another who
    /// can derive the material of the friendship sends.
    pub(super) fn is_word_of_friend(&self, arrived: &Arrived) -> bool {
        arrived.credentials == self.credentials()
            && arrived.pdu.src == self.friend
            && arrived.is_of_neighbour_to(Address::from(self.parameters.lpn_address))
    }

    /// The next change of the Friend Subscription List: whether addresses are to be added or removed, and which, as
    /// far as one message and the list can hold them.
    pub(super) fn list_change(&self, wanted: &BTreeSet<Address>) -> Option<(bool, AddressList)> {
        let size = usize::from(self.offer.subscription_list_size);
        // Of a list that is too short the highest addresses have a place: all nodes, the other fixed groups, groups.
        let wanted: BTreeSet<Address> = wanted.iter().rev().copied().take(size).collect();
        let first = |addresses: &mut dyn Iterator<Item = Address>| {
            addresses.take(MAX_LISTED).collect::<AddressList>()
        };
        let removed = first(&mut self.confirmed.difference(&wanted).copied());
        if !removed.is_empty() {
            return Some((false, removed));
        }
        let added = first(&mut wanted.difference(&self.confirmed).copied());
        (!added.is_empty()).then_some((true, added))
    }

    /// The next question, or the last one once more if it was not answered.
    pub(super) fn ask(&mut self, now: Instant, wanted: &BTreeSet<Address>) -> FriendshipMessage {
        self.asked = now;
        self.is_listening = false;
        if self.question.is_none() {
            // What is in the queue first: a list that changes brings more into it.
            let change = if self.is_established && self.is_drained { self.list_change(wanted) } else { None };
            self.question = Some(match change {
                None => Question::Poll,
                Some((adds, addresses)) => {
                    let transaction = self.transaction;
                    self.transaction = transaction.wrapping_add(1);
                    Question::Change { transaction, adds, addresses }
                }
            });
        }
        match &self.question {
            Some(Question::Change { transaction, adds: true, addresses }) => {
                FriendshipMessage::SubscriptionListAdd {
                    transaction: *transaction,
                    addresses: addresses.clone(),
                }
            }
            Some(Question::Change { transaction, adds: false, addresses }) => {
                FriendshipMessage::SubscriptionListRemove {
                    transaction: *transaction,
                    addresses: addresses.clone(),
                }
            }
            Some(Question::Poll) | None => FriendshipMessage::Poll { fsn: self.fsn },
        }
    }

    /// When the answer to a question of `now` may come.
    pub(super) fn window(&self, now: Instant, receive_delay: Duration) -> (Instant, Instant) {
        let from = now + receive_delay;
        let window = Duration::from_millis(self.offer.receive_window_ms.into());
        (now + receive_delay.saturating_sub(EARLY), from + window + LATE)
    }

    /// How long to sleep when there is nothing to be had, so that the next question and its quick repetitions are over
    /// before the Poll Timeout, which runs from the last question that was answered.
    pub(super) fn pause(&self, settings: &LowPowerSettings) -> Duration {
        let (_, answered_by) = self.window(Instant::ORIGIN, settings.receive_delay());
        let exchanges = (answered_by - Instant::ORIGIN) * (QUICK_REPEATS + 1);
        settings.poll_interval.min(settings.poll_timeout.duration().saturating_sub(exchanges))
    }

    /// No answer came; returns how long to wait before the question is repeated.
    pub(super) fn miss(&mut self) -> Duration {
        self.is_listening = false;
        self.misses += 1;
        match self.misses.checked_sub(QUICK_REPEATS) {
            None => Duration::ZERO,
            Some(doublings) => Duration::from_secs(1 << doublings.min(8)).min(MAX_PAUSE),
        }
    }

    /// Takes note of what the Friend sends. An answer to a Friend Poll is whatever comes that did not come before;
    /// it toggles FSN, which acknowledges it (MshPRT §3.6.6.4.2). So does what only looks like a message of the
    /// Friend, as it would be at the front of the Friend Queue for ever.
    pub(super) fn note(&mut self, arrived: &Arrived) -> Option<Progress> {
        let message = friendship_message(arrived).filter(|_| self.is_word_of_friend(arrived));
        let is_for_poll = matches!(self.question, Some(Question::Poll));
        let is_confirm = matches!(message, Some(FriendshipMessage::SubscriptionListConfirm { .. }));
        let place = (arrived.pdu.src, arrived.seq_auth());
        if !is_for_poll || is_confirm || self.recent.contains(&place) {
            return None;
        }
        let update = match message {
            Some(FriendshipMessage::Update { more_data, .. }) => Some(more_data),
            _ => None,
        };
        if !self.is_established && update.is_none() {
            return None;
        }
        // One that is played back would acknowledge what never came.
        if update.is_some() {
            if self.updated.is_some_and(|last| place.1 <= last) {
                return None;
            }
            self.updated = Some(place.1);
        }
        self.recent.push_back(place);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        self.fsn = !self.fsn;
        self.is_established = true;
        self.is_drained = update == Some(false);
        self.end_question();
        Some(if self.is_drained { Progress::Nothing } else { Progress::More })
    }

    /// The Friend confirms a change of its list. Returns whether it is the one that was asked for.
    pub(super) fn confirm(&mut self, confirmed: u8) -> bool {
        match self.question.take() {
            Some(Question::Change { transaction, adds, addresses }) if transaction == confirmed => {
                for address in addresses {
                    if adds {
                        self.confirmed.insert(address);
                    } else {
                        self.confirmed.remove(&address);
                    }
                }
                self.end_question();
                true
            }
            other => {
                self.question = other;
                false
            }
        }
    }

    fn end_question(&mut self) {
        self.question = None;
        self.misses = 0;
        self.is_listening = false;
        self.answered = self.asked;
    }
}

fn friendship_message(arrived: &Arrived) -> Option<FriendshipMessage> {
    match LowerTransportPdu::decode(arrived.pdu.ctl, &arrived.pdu.transport_pdu).ok()? {
        LowerTransportPdu::UnsegmentedControl(opcode, parameters) => {
            FriendshipMessage::decode(opcode, &parameters).ok()
        }
        _ => None,
    }
}
