//! The device's end (MshPRT §5.4.2, §5.4.4).

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use clock::Instant;
use mesh_crypto::provisioning::{AuthValue, Confirmation, ConfirmationInputs, Session};
use mesh_crypto::{DevKey, EcdhSecret, PrivateKey, PublicKey};
use mesh_wire::DecodeError;
use mesh_wire::bearer::pb_adv::CloseReason;
use mesh_wire::provisioning::{
    AuthenticationMethod, Capabilities, ErrorCode, InputAction, OutputAction, ProvisioningData,
    ProvisioningPdu, Start,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

use super::oob::{Kind, OobValue, Random, Secrets};
use super::{LinkEnd, PROVISIONING_TIMEOUT, PROVISIONING_TIMEOUT_WITH_USER, Protocol};

/// The largest type of a provisioning PDU that provisioners before records knew.
const LAST_KNOWN_TYPE: u8 = 9;

/// What a device is, and how it can be authenticated.
#[derive(Clone, Debug)]
pub struct DeviceConfig {
    /// How many elements it has; at least 1.
    pub elements: u8,
    /// [`Capabilities::CMAC_AES128`], [`Capabilities::HMAC_SHA256`], or both.
    pub algorithms: u16,
    /// The private key whose public key the provisioner has out of band.
    pub oob_private_key: Option<PrivateKey>,
    /// A value that the provisioner has out of band: at most 32 octets, and unlike any other device's.
    pub static_oob: Option<AuthValue>,
    /// Whether it refuses to be provisioned without authentication. It then needs one of the ways to authenticate,
    /// and offers HMAC-SHA-256 only, which is what older provisioners, which do not know of this, do not have.
    pub requires_oob: bool,
    /// What it can show: a bit for each [`OutputAction`].
    pub output: OobActions,
    /// What can be typed in: a bit for each [`InputAction`].
    pub input: OobActions,
}

/// What a device's display or keys can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OobActions {
    /// Most digits or characters, 0 to 8; 0: none.
    pub size: u8,
    /// A bit for each action.
    pub actions: u16,
}

/// What a device has its host do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceEvent {
    /// Draw attention for this long; zero: stop.
    Attention(Duration),
    /// Show this until [`DeviceEvent::HideValue`].
    ShowValue {
        /// How.
        action: OutputAction,
        /// Of so many digits or characters, with zeros in front of a number that is shown.
        size: u8,
        /// What.
        value: OobValue,
    },
    /// The value is not needed any more.
    HideValue,
    /// Have the user give a value of so many digits or characters, and hand it to [`Provisionee::enter_value`].
    EnterValue {
        /// How.
        action: InputAction,
        /// Digits or characters.
        size: u8,
    },
    /// The device is a node now. Complete has not left yet: who stores this first is a node for itself whenever it is one
    /// for its provisioner.
    Provisioned {
        /// What it got.
        data: ProvisioningData,
        /// Its device key.
        dev_key: DevKey,
    },
    /// The session failed; the device waits for another.
    Failed(DeviceFailure),
}

/// Why a session failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceFailure {
    /// The provisioner did something wrong, and was told what.
    #[error("the provisioner was refused: {0}")]
    Refused(ErrorCode),
    /// The host gave up, and the provisioner was told why.
    #[error("the device gave up: {0}")]
    GaveUp(ErrorCode),
    /// The provisioner said nothing for too long.
    #[error("the provisioner said nothing for too long")]
    Timeout,
    /// The link ended before the device was a node.
    #[error("the link ended before the device was a node")]
    LinkEnded(LinkEnd),
}

/// Why the host of a device cannot go on with a session (MshPRT §5.4.1.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveUp {
    /// What it takes is not there: memory, power, a place to store what a node has to keep.
    OutOfResources,
    /// Anything else, as that the user called it off.
    UnexpectedError,
}

/// No value is asked for, or not one like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no value of this kind and size is asked for now")]
pub struct NotAsked;

/// A device that waits to be provisioned, or is being.
#[derive(Debug)]
pub struct Provisionee {
    config: DeviceConfig,
    rng: ChaCha20Rng,
    /// What the next session uses instead of fresh random values.
    given: Option<Secrets>,
    state: State,
    timeout: Duration,
    timer: Option<Instant>,
    is_attentive: bool,
    is_showing: bool,
    transmit: VecDeque<Vec<u8>>,
    close: Option<CloseReason>,
    events: VecDeque<DeviceEvent>,
}

/// What has been said and what is waited for.
#[derive(Debug)]
enum State {
    /// There is no link.
    Closed,
    /// Waits for Invite.
    Open,
    /// Waits for Start.
    Invited { attention_s: u8 },
    /// Waits for the provisioner's public key.
    Started(Negotiated),
    /// Waits for the user.
    Input { exchanged: Exchanged, action: InputAction, size: u8 },
    /// Waits for Confirmation.
    Exchanged(Exchanged, AuthValue),
    /// Waits for Random.
    Confirmed { secret: EcdhSecret, random: Random, confirmation: Confirmation, peer: Vec<u8> },
    /// Waits for Data.
    Authenticated(Session),
    /// Is a node, and has sent Complete.
    Complete,
    /// Is a node, and has nothing more to say.
    Done,
    /// Has sent Failed, and waits for the link to be closed.
    Failed,
}

#[derive(Debug)]
struct Negotiated {
    attention_s: u8,
    start: Start,
    secrets: Secrets,
}

/// The private key is gone once there is a secret (MshPRT §5.4.2.3).
#[derive(Debug)]
struct Exchanged {
    attention_s: u8,
    start: Start,
    random: Random,
    peer: PublicKey,
    own: PublicKey,
    secret: EcdhSecret,
}

impl DeviceConfig {
    /// A device that can be provisioned without authentication, with both algorithms.
    pub const fn new(elements: u8) -> Self {
        Self {
            elements,
            algorithms: Capabilities::CMAC_AES128 | Capabilities::HMAC_SHA256,
            oob_private_key: None,
            static_oob: None,
            requires_oob: false,
            output: OobActions { size: 0, actions: 0 },
            input: OobActions { size: 0, actions: 0 },
        }
    }

    /// What the device tells a provisioner.
    pub fn capabilities(&self) -> Capabilities {
        let bit = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        // What an action is worth without a size, or a size without an action: nothing (§5.4.1.2).
        let usable = |oob: OobActions, all: u16| match (oob.size.min(8), oob.actions & all) {
            (0, _) | (_, 0) => OobActions::default(),
            (size, actions) => OobActions { size, actions },
        };
        let (output, input) = (usable(self.output, 0x1f), usable(self.input, 0x0f));
        Capabilities {
            elements: self.elements.max(1),
            algorithms: if self.requires_oob { Capabilities::HMAC_SHA256 } else { self.algorithms },
            public_key_type: bit(self.oob_private_key.is_some(), Capabilities::OOB_PUBLIC_KEY),
            oob_type: bit(self.static_oob.is_some(), Capabilities::STATIC_OOB)
                | bit(self.requires_oob, Capabilities::ONLY_OOB),
            output_size: output.size,
            output_actions: output.actions,
            input_size: input.size,
            input_actions: input.actions,
        }
    }
}

impl Provisionee {
    /// A device. What it keeps secret comes from `seed`, which must be random and used once.
    pub fn new(config: DeviceConfig, seed: [u8; 32]) -> Self {
        Self {
            config,
            rng: ChaCha20Rng::from_seed(seed),
            given: None,
            state: State::Closed,
            timeout: PROVISIONING_TIMEOUT,
            timer: None,
            is_attentive: false,
            is_showing: false,
            transmit: VecDeque::new(),
            close: None,
            events: VecDeque::new(),
        }
    }

    /// Has the first session use these values, to reproduce one that is written down.
    #[must_use]
    pub fn with_secrets(mut self, secrets: Secrets) -> Self {
        self.given = Some(secrets);
        self
    }

    /// The next thing that the host is to do.
    pub fn poll_event(&mut self) -> Option<DeviceEvent> {
        self.events.pop_front()
    }

    /// Takes what the user gave after [`DeviceEvent::EnterValue`].
    ///
    /// # Errors
    /// When nothing of the kind is asked for; the session goes on.
    pub fn enter_value(&mut self, now: Instant, value: &OobValue) -> Result<(), NotAsked> {
        match core::mem::replace(&mut self.state, State::Failed) {
            State::Input { exchanged, action, size } if value.fits(size, action.into()) => {
                self.state = State::Exchanged(exchanged, value.auth_value());
                self.send(now, &ProvisioningPdu::InputComplete);
                Ok(())
            }
            state => {
                self.state = state;
                Err(NotAsked)
            }
        }
    }

    /// Ends the session because of something that the protocol does not know of, and tells the provisioner. The device
    /// then waits for another link, as after any failure. Without a session, or when the device is a node already,
    /// nothing happens.
    pub fn give_up(&mut self, reason: GiveUp) {
        let code = match reason {
            GiveUp::OutOfResources => ErrorCode::OutOfResources,
            GiveUp::UnexpectedError => ErrorCode::UnexpectedError,
        };
        match self.state {
            State::Closed | State::Failed | State::Complete | State::Done => {}
            _ => self.refuse(code, DeviceFailure::GaveUp(code)),
        }
    }

    /// Tells the provisioner that the session is over, and waits for it to close the link (MshPRT §5.4.4).
    fn refuse(&mut self, code: ErrorCode, failure: DeviceFailure) {
        self.state = State::Failed;
        self.transmit.push_back(ProvisioningPdu::Failed(code).encode());
        self.fail(failure);
    }

    /// One step of the protocol; what is wrong is told to the provisioner.
    fn step(&mut self, now: Instant, octets: &[u8]) -> Result<(), ErrorCode> {
        let pdu_type = *octets.first().ok_or(ErrorCode::InvalidPdu)?;
        if pdu_type > LAST_KNOWN_TYPE {
            return Err(ErrorCode::InvalidPdu);
        }
        let expected = match self.state {
            State::Open => Some(0),
            State::Invited { .. } => Some(2),
            State::Started(_) => Some(3),
            State::Exchanged(..) => Some(5),
            State::Confirmed { .. } => Some(6),
            State::Authenticated(_) => Some(7),
            _ => None,
        };
        if expected != Some(pdu_type) {
            return Err(ErrorCode::UnexpectedPdu);
        }
        let pdu = ProvisioningPdu::decode(octets).map_err(|error| match error {
            DecodeError::UnknownOpcode => ErrorCode::InvalidPdu,
            _ => ErrorCode::InvalidFormat,
        })?;
        match (core::mem::replace(&mut self.state, State::Failed), pdu) {
            (State::Open, ProvisioningPdu::Invite { attention_s }) => {
                self.is_attentive = true;
                self.events.push_back(DeviceEvent::Attention(Duration::from_secs(attention_s.into())));
                self.state = State::Invited { attention_s };
                self.send(now, &ProvisioningPdu::Capabilities(self.config.capabilities()));
            }
            (State::Invited { attention_s }, ProvisioningPdu::Start(start)) => {
                self.start(attention_s, start)?;
            }
            (State::Started(negotiated), ProvisioningPdu::PublicKey(key)) => {
                self.exchange(now, negotiated, key)?;
            }
            (State::Exchanged(exchanged, auth_value), ProvisioningPdu::Confirmation(peer)) => {
                self.confirm(now, exchanged, &auth_value, peer)?;
            }
            (
                State::Confirmed { secret, random: own, confirmation, peer },
                ProvisioningPdu::Random(random),
            ) => {
                if random.len() != peer.len() || own.0.starts_with(&random) {
                    return Err(ErrorCode::InvalidFormat);
                }
                // Our own random value is revealed only to who knows the authentication value.
                if confirmation.of(&random) != peer {
                    return Err(ErrorCode::ConfirmationFailed);
                }
                let own = &own.0[..random.len()];
                let salt = confirmation.provisioning_salt(&random, own);
                self.send(now, &ProvisioningPdu::Random(own.to_vec()));
                self.state = State::Authenticated(Session::new(&secret, &salt));
            }
            (State::Authenticated(session), ProvisioningPdu::Data(secured)) => {
                self.complete(now, &session, &secured)?;
            }
            _ => return Err(ErrorCode::UnexpectedPdu),
        }
        Ok(())
    }

    fn start(&mut self, attention_s: u8, start: Start) -> Result<(), ErrorCode> {
        self.end_attention();
        let capabilities = self.config.capabilities();
        let has_key = capabilities.public_key_type & Capabilities::OOB_PUBLIC_KEY != 0;
        if !capabilities.has(start.algorithm)
            || !capabilities.offers(start.method)
            || (start.oob_public_key && !has_key)
        {
            return Err(ErrorCode::InvalidFormat);
        }
        let mut secrets = self.given.take().unwrap_or_else(|| Secrets::generate(&mut self.rng));
        if let (true, Some(key)) = (start.oob_public_key, &self.config.oob_private_key) {
            secrets.private_key = key.clone();
        }
        self.timeout = match start.method {
            AuthenticationMethod::NoOob | AuthenticationMethod::StaticOob => PROVISIONING_TIMEOUT,
            _ => PROVISIONING_TIMEOUT_WITH_USER,
        };
        self.state = State::Started(Negotiated { attention_s, start, secrets });
        Ok(())
    }

    fn exchange(&mut self, now: Instant, negotiated: Negotiated, key: [u8; 64]) -> Result<(), ErrorCode> {
        let peer = PublicKey::new(key).ok_or(ErrorCode::InvalidFormat)?;
        let Negotiated { attention_s, start, secrets: Secrets { private_key, random } } = negotiated;
        let own = private_key.public_key();
        // Who sends our own key back could have us authenticate ourselves (CVE-2020-26558, CVE-2023-4258). The key
        // that is known out of band is ours as well.
        let oob = self.config.oob_private_key.as_ref().map(PrivateKey::public_key);
        if peer == own || Some(peer) == oob {
            return Err(ErrorCode::InvalidFormat);
        }
        if !start.oob_public_key {
            self.send(now, &ProvisioningPdu::from(&own));
        }
        let secret = private_key.ecdh_secret(&peer);
        drop(private_key);
        let exchanged = Exchanged { attention_s, start, random, peer, own, secret };
        let auth_value = match start.method {
            AuthenticationMethod::NoOob => AuthValue::NONE,
            AuthenticationMethod::StaticOob => {
                self.config.static_oob.clone().ok_or(ErrorCode::UnexpectedError)?
            }
            AuthenticationMethod::OutputOob { action, size } => {
                let value = OobValue::random(&mut self.rng, size, Kind::from(action));
                let auth_value = value.auth_value();
                self.is_showing = true;
                self.events.push_back(DeviceEvent::ShowValue { action, size, value });
                auth_value
            }
            AuthenticationMethod::InputOob { action, size } => {
                self.events.push_back(DeviceEvent::EnterValue { action, size });
                self.state = State::Input { exchanged, action, size };
                return Ok(());
            }
        };
        self.state = State::Exchanged(exchanged, auth_value);
        Ok(())
    }

    fn confirm(
        &mut self,
        now: Instant,
        exchanged: Exchanged,
        auth_value: &AuthValue,
        peer: Vec<u8>,
    ) -> Result<(), ErrorCode> {
        self.hide_value();
        let Exchanged { attention_s, start, random, peer: peer_key, own: own_key, secret } = exchanged;
        let inputs = ConfirmationInputs {
            invite: &[attention_s],
            capabilities: &self.config.capabilities().to_octets(),
            start: &start.to_octets(),
            provisioner: &peer_key,
            device: &own_key,
        };
        let confirmation = Confirmation::new(start.algorithm, &inputs, &secret, auth_value);
        let own = confirmation.of(&random.0[..start.algorithm.size()]);
        if peer.len() != start.algorithm.size() || peer == own {
            return Err(ErrorCode::InvalidFormat);
        }
        self.send(now, &ProvisioningPdu::Confirmation(own));
        self.state = State::Confirmed { secret, random, confirmation, peer };
        Ok(())
    }

    fn complete(&mut self, now: Instant, session: &Session, secured: &[u8; 33]) -> Result<(), ErrorCode> {
        let octets = session.decrypt(secured).map_err(|_| ErrorCode::DecryptionFailed)?;
        let data = ProvisioningData::decode(&octets).map_err(|_| ErrorCode::InvalidData)?;
        if data.address.element(self.config.elements.max(1) - 1).is_none() {
            return Err(ErrorCode::CannotAssignAddresses);
        }
        let dev_key = session.dev_key().clone();
        self.events.push_back(DeviceEvent::Provisioned { data, dev_key });
        self.state = State::Complete;
        self.send(now, &ProvisioningPdu::Complete);
        Ok(())
    }

    fn send(&mut self, now: Instant, pdu: &ProvisioningPdu) {
        self.transmit.push_back(pdu.encode());
        self.timer = Some(now + self.timeout);
    }

    fn hide_value(&mut self) {
        if core::mem::take(&mut self.is_showing) {
            self.events.push_back(DeviceEvent::HideValue);
        }
    }

    fn finish(&mut self) {
        self.state = State::Done;
        self.timer = None;
    }

    fn end_attention(&mut self) {
        if core::mem::take(&mut self.is_attentive) {
            self.events.push_back(DeviceEvent::Attention(Duration::ZERO));
        }
    }

    fn fail(&mut self, failure: DeviceFailure) {
        self.end_attention();
        self.hide_value();
        self.events.push_back(DeviceEvent::Failed(failure));
    }
}

impl Protocol for Provisionee {
    fn handle_link_open(&mut self, now: Instant) {
        if self.is_done() {
            return;
        }
        self.transmit.clear();
        self.close = None;
        self.end_attention();
        self.hide_value();
        self.timeout = PROVISIONING_TIMEOUT;
        self.timer = Some(now + self.timeout);
        self.state = State::Open;
    }

    fn handle_pdu(&mut self, now: Instant, pdu: &[u8]) {
        if matches!(self.state, State::Closed | State::Done) {
            return;
        }
        // Once Complete is sent the device is a node, whatever else is said.
        if matches!(self.state, State::Complete) {
            return;
        }
        if matches!(self.state, State::Failed) {
            // Whatever comes now is unexpected (§5.4.4), and does not keep the link open.
            self.transmit.push_back(ProvisioningPdu::Failed(ErrorCode::UnexpectedPdu).encode());
            return;
        }
        let result = self.step(now, pdu);
        // After the step: it may have chosen a method that takes more time.
        self.timer = Some(now + self.timeout);
        if let Err(code) = result {
            self.refuse(code, DeviceFailure::Refused(code));
        }
    }

    fn handle_delivered(&mut self, _now: Instant) {
        if matches!(self.state, State::Complete) {
            self.finish();
        }
    }

    fn handle_link_end(&mut self, _now: Instant, end: LinkEnd) {
        self.timer = None;
        self.transmit.clear();
        match self.state {
            // Once Complete is sent the device is a node. Provisioners that close the link without an
            // acknowledgment are common.
            State::Complete => self.finish(),
            State::Closed | State::Done => {}
            State::Failed => self.state = State::Closed,
            _ => {
                self.state = State::Closed;
                self.fail(DeviceFailure::LinkEnded(end));
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.timer.is_none_or(|at| at > now) {
            return;
        }
        self.timer = None;
        match self.state {
            State::Complete => self.finish(),
            State::Failed => {
                self.state = State::Closed;
                self.close = Some(CloseReason::Timeout);
            }
            _ => {
                self.state = State::Closed;
                self.close = Some(CloseReason::Timeout);
                self.transmit.clear();
                self.fail(DeviceFailure::Timeout);
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.timer
    }

    fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmit.pop_front()
    }

    fn poll_close(&mut self) -> Option<CloseReason> {
        self.close.take()
    }

    fn is_done(&self) -> bool {
        matches!(self.state, State::Done | State::Complete)
    }
}
