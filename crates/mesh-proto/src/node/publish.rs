//! Model publication (MshPRT §3.7.6.1, §4.2.3): on change, periodically, and repeated.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use clock::Instant;
use mesh_wire::ModelId;
use mesh_wire::access::MAX_PAYLOAD;
use mesh_wire::foundation::{ConfigMessage, Publication, PublishDestination};
use rand_core::Rng as _;

use super::{CommandError, Node, OutgoingMessage, Timer};
use crate::access::{Access, Periodic, Place};
use crate::keys::MessageKey;
use crate::upper_transport::Destination;

/// The shortest time between two periodic publications: a millisecond is the least Status Min Interval (MMDL §4.1.3.5).
const MIN_PERIOD: Duration = Duration::from_millis(1);

/// What was published last and is still to be repeated.
pub(super) type Publications = BTreeMap<(u8, ModelId), Repetition>;

#[derive(Clone, Debug)]
pub(super) struct Repetition {
    payload: Vec<u8>,
    left: u8,
    /// The number under which it waits to be sent, or once waited.
    waiting: Option<u64>,
}

impl Node {
    /// Publishes `payload` at `at`, if the model has a publication. What it published before and still waits, and
    /// its repetitions, end.
    pub(super) fn publish(&mut self, at: Instant, element: u8, model: ModelId, payload: Vec<u8>) {
        let Some(publication) = self.publication(element, model) else {
            return;
        };
        if let Some(number) = self.publications.get(&(element, model)).and_then(|before| before.waiting) {
            self.give_up_waiting(number);
        }
        let retransmit = publication.retransmit;
        let waiting = self.send_publication(at, element, &publication, payload.clone());
        self.publications.insert((element, model), Repetition { payload, left: retransmit.count(), waiting });
        if retransmit.count() > 0 {
            self.timers.set(Timer::PublishRetransmit(element, model), at + retransmit.interval());
        } else {
            self.timers.cancel(&Timer::PublishRetransmit(element, model));
        }
    }

    pub(super) fn publish_for_host(
        &mut self,
        now: Instant,
        element: u8,
        model: ModelId,
        payload: Vec<u8>,
    ) -> Result<(), CommandError> {
        if payload.is_empty() || payload.len() > MAX_PAYLOAD {
            return Err(CommandError::Length);
        }
        if self.publication(element, model).is_none() {
            return Err(CommandError::NoPublication);
        }
        self.publish(now, element, model, payload);
        Ok(())
    }

    pub(super) fn repeat_publication(&mut self, now: Instant, element: u8, model: ModelId) {
        let Some(publication) = self.publication(element, model) else {
            return;
        };
        let Some(repetition) = self.publications.get_mut(&(element, model)) else {
            return;
        };
        let Some(left) = repetition.left.checked_sub(1) else {
            return;
        };
        repetition.left = left;
        let payload = repetition.payload.clone();
        if left > 0 {
            self.timers
                .set(Timer::PublishRetransmit(element, model), now + publication.retransmit.interval());
        }
        self.send_publication(now, element, &publication, payload);
    }

    pub(super) fn publish_periodically(&mut self, now: Instant, element: u8, model: ModelId) {
        let Some(entry) = self.elements.model(element, model) else { return };
        let Access::Server(number) = entry.access else { return };
        let Some(period) = entry.publication.and_then(|x| x.period.duration()) else { return };
        let server = &mut self.elements.servers_mut()[number];
        let place = Place { element: element - server.first_element, model };
        let Periodic { payload, next } = server.server.periodic(now, place, period);
        self.timers.set(Timer::PublishPeriod(element, model), now + next.max(MIN_PERIOD));
        if let Some(payload) = payload {
            self.publish(now, element, model, payload);
        }
    }

    /// Has a model that publishes periodically asked at once what it has to say.
    pub(super) fn hurry(&mut self, now: Instant, element: u8, model: ModelId) {
        if self.publication(element, model).and_then(|x| x.period.duration()).is_some() {
            self.timers.set(Timer::PublishPeriod(element, model), now);
        }
    }

    /// Starts or ends what a Configuration Client changed about a publication.
    pub(super) fn restart_publications(&mut self, now: Instant, request: &ConfigMessage) {
        if let ConfigMessage::ModelPublicationSet { model, .. } = request
            && let Some(element) = self.network.own_element(model.element)
        {
            self.timers.cancel(&Timer::PublishPeriod(element, model.model));
            self.timers.cancel(&Timer::PublishRetransmit(element, model.model));
            self.publications.remove(&(element, model.model));
            if let Some(period) = self.publication(element, model.model).and_then(|x| x.period.duration()) {
                // Nodes that were configured or powered up together must not publish together for ever.
                let phase = period.mul_f64(f64::from(self.rng.next_u32()) / f64::from(u32::MAX));
                self.timers.set(Timer::PublishPeriod(element, model.model), now + phase);
            }
        }
    }

    fn publication(&self, element: u8, model: ModelId) -> Option<Publication> {
        self.elements.model(element, model)?.publication
    }

    fn send_publication(
        &mut self,
        at: Instant,
        element: u8,
        publication: &Publication,
        payload: Vec<u8>,
    ) -> Option<u64> {
        let destination = match publication.destination {
            PublishDestination::Address(address) => Destination::Address(address),
            PublishDestination::Label(label) => Destination::Label(label),
        };
        let key = MessageKey::App(publication.app_key_index);
        let subnet = self.keys.application(publication.app_key_index)?.net_key_index;
        let message =
            OutgoingMessage { element, destination, key, ttl: publication.ttl, payload, segmented: false };
        self.wait(at, subnet, message, publication.friendship_credentials)
    }
}
