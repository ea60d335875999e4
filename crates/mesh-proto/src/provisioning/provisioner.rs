//! The provisioner's end (MshPRT §5.4.2, §5.4.4).

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use clock::Instant;
use mesh_crypto::provisioning::{Algorithm, AuthValue, Confirmation, ConfirmationInputs, Session};
use mesh_crypto::{DevKey, EcdhSecret, PublicKey};
use mesh_wire::address::UnicastAddress;
use mesh_wire::bearer::pb_adv::CloseReason;
use mesh_wire::provisioning::{
    AuthenticationMethod, Capabilities, ErrorCode, InputAction, OutputAction, ProvisioningData,
    ProvisioningPdu, Start,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

use super::oob::{Kind, OobValue, Random, Secrets};
use super::provisionee::NotAsked;
use super::{LinkEnd, PROVISIONING_TIMEOUT, PROVISIONING_TIMEOUT_WITH_USER, Protocol};

/// How a device is to be authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// Not at all: whoever was near may have taken its place. The NetKey is then no secret to rely on.
    NoOob,
    /// By the value that came with it.
    Static(AuthValue),
    /// By a value of `size` digits or characters that it shows.
    Output {
        /// How it shows it.
        action: OutputAction,
        /// 1 to 8.
        size: u8,
    },
    /// By a value of `size` digits or characters that the user types into it.
    Input {
        /// How it is typed in.
        action: InputAction,
        /// 1 to 8.
        size: u8,
    },
}

/// What the host decides once it knows what a device can do.
#[derive(Clone, Debug)]
pub struct Choice {
    /// How to authenticate the device.
    pub authentication: Authentication,
    /// The device's public key, if it came another way.
    pub oob_public_key: Option<PublicKey>,
    /// Whether a device is taken that knows CMAC-AES-128 only, as those before Mesh Protocol 1.1 do. Who pretends to be
    /// such a device can find out a short authentication value in time to use it (CVE-2020-26556, CVE-2020-26557):
    /// nothing but a long static value, or a public key that came another way, then tells the two apart.
    pub allows_cmac: bool,
    /// What the device gets.
    pub data: ProvisioningData,
}

/// What a provisioner tells its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProvisionerEvent {
    /// What the device can do; [`Provisioner::choose`] goes on.
    Capabilities(Capabilities),
    /// Have the user read so many digits or characters from the device, and hand them to
    /// [`Provisioner::enter_value`].
    EnterValue {
        /// How the device shows them.
        action: OutputAction,
        /// Digits or characters.
        size: u8,
    },
    /// Show this, for the user to type into the device, until [`ProvisionerEvent::HideValue`].
    ShowValue {
        /// How it is typed in.
        action: InputAction,
        /// Of so many digits or characters, with zeros in front of a number that is typed in.
        size: u8,
        /// What.
        value: OobValue,
    },
    /// The user has typed it in, or need not any more.
    HideValue,
    /// The device is about to be sent these addresses. They are its own from now on, whatever becomes of the session
    /// (MshPRT §5.4.2.5): who gives addresses must have stored that before the next PDU leaves.
    Addresses {
        /// Of its primary element.
        address: UnicastAddress,
        /// How many follow one another.
        elements: u8,
    },
    /// The device is a node.
    Provisioned(NewNode),
    /// It is not.
    Failed(ProvisionerFailure),
}

/// A device that has become a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNode {
    /// The address of its primary element.
    pub address: UnicastAddress,
    /// How many elements it has.
    pub elements: u8,
    /// Its device key.
    pub dev_key: DevKey,
    /// The algorithm that was used.
    pub algorithm: Algorithm,
    /// Whether it was authenticated: by a value, or by a public key that came another way. If it was not, the NetKey
    /// is to be taken for insecure.
    pub is_authenticated: bool,
}

/// Why a device did not become a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProvisionerFailure {
    /// The device gave up.
    #[error("the device gave up: {0}")]
    Device(ErrorCode),
    /// The device said something that is no PDU, or none for now.
    #[error("the device said what it may not say now")]
    Protocol,
    /// The device's public key lies beside the curve, or is the provisioner's.
    #[error("the device's public key is not one of its own")]
    PublicKey,
    /// The device sent the provisioner's own confirmation or random value back.
    #[error("the device only repeats what it is told")]
    Reflected,
    /// The device does not know the authentication value.
    #[error("the device does not know the authentication value, or somebody took its place")]
    ConfirmationFailed,
    /// The device said nothing for too long.
    #[error("the device said nothing for too long")]
    Timeout,
    /// The link ended before the device was a node.
    #[error("the link ended before the device was a node")]
    LinkEnded(LinkEnd),
    /// The host gave up.
    #[error("it was called off")]
    Cancelled,
}

/// Why a choice cannot be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// No choice is asked for now.
    #[error("the device has not said yet what it can do, or a choice was made already")]
    NotAsked,
    /// The device offers no algorithm that is allowed.
    #[error("the device knows no algorithm that is allowed")]
    NoAlgorithm,
    /// The device does not offer this way to authenticate it.
    #[error("the device does not offer this way to authenticate it")]
    NotOffered,
    /// The static value authenticates nobody.
    #[error(
        "a static value of nothing but zeros authenticates nobody; say that there is none, or take another"
    )]
    ZeroStaticOob,
    /// The device has no public key out of band.
    #[error("the device has no public key that is known out of band")]
    NoOobPublicKey,
    /// The addresses of its elements would run past 7FFF.
    #[error("the device has more elements than there are addresses from this one on")]
    Address,
}

/// A provisioner of one device. It serves one session.
#[derive(Debug)]
pub struct Provisioner {
    attention_s: u8,
    rng: ChaCha20Rng,
    given: Option<Secrets>,
    state: State,
    timeout: Duration,
    timer: Option<Instant>,
    is_showing: bool,
    transmit: VecDeque<Vec<u8>>,
    close: Option<CloseReason>,
    events: VecDeque<ProvisionerEvent>,
}

#[derive(Debug)]
enum State {
    /// The link is not open yet.
    Closed,
    /// Waits for Capabilities.
    Invited,
    /// Waits for the host's choice.
    Choosing(Capabilities),
    /// Waits for the device's public key.
    Started(Negotiated),
    /// Waits for the user.
    Reading { exchanged: Exchanged, action: OutputAction, size: u8 },
    /// Waits for Input Complete.
    Typing { exchanged: Exchanged, auth_value: AuthValue },
    /// Waits for Confirmation.
    Exchanged { exchanged: Exchanged, confirmation: Confirmation, own: Vec<u8> },
    /// Waits for Random.
    Confirmed { exchanged: Exchanged, confirmation: Confirmation, peer: Vec<u8> },
    /// Waits for Complete.
    Sent(NewNode),
    /// It ended, one way or the other.
    Done,
}

#[derive(Debug)]
struct Negotiated {
    capabilities: Capabilities,
    start: Start,
    choice: Choice,
    secrets: Secrets,
}

/// The private key is gone once there is a secret (MshPRT §5.4.2.3).
#[derive(Debug)]
struct Exchanged {
    capabilities: Capabilities,
    start: Start,
    data: ProvisioningData,
    random: Random,
    own: PublicKey,
    peer: PublicKey,
    secret: EcdhSecret,
}

impl Exchanged {
    fn random(&self) -> &[u8] {
        &self.random.0[..self.start.algorithm.size()]
    }
}

impl Authentication {
    const fn method(&self) -> AuthenticationMethod {
        match *self {
            Self::NoOob => AuthenticationMethod::NoOob,
            Self::Static(_) => AuthenticationMethod::StaticOob,
            Self::Output { action, size } => AuthenticationMethod::OutputOob { action, size },
            Self::Input { action, size } => AuthenticationMethod::InputOob { action, size },
        }
    }
}

impl Provisioner {
    /// A provisioner that has the device draw attention to itself for so many seconds. What it keeps secret comes
    /// from `seed`, which must be random and used once.
    pub fn new(attention_s: u8, seed: [u8; 32]) -> Self {
        Self {
            attention_s,
            rng: ChaCha20Rng::from_seed(seed),
            given: None,
            state: State::Closed,
            timeout: PROVISIONING_TIMEOUT,
            timer: None,
            is_showing: false,
            transmit: VecDeque::new(),
            close: None,
            events: VecDeque::new(),
        }
    }

    /// Has the session use these values, to reproduce one that is written down.
    #[must_use]
    pub fn with_secrets(mut self, secrets: Secrets) -> Self {
        self.given = Some(secrets);
        self
    }

    /// The next thing that the host should know.
    pub fn poll_event(&mut self) -> Option<ProvisionerEvent> {
        self.events.pop_front()
    }

    /// Goes on after [`ProvisionerEvent::Capabilities`], with the strongest algorithm that the device has
    /// (MshPRT §5.4.2.3).
    ///
    /// # Errors
    /// What is wrong with the choice; another may be made.
    pub fn choose(&mut self, now: Instant, choice: Choice) -> Result<(), ChoiceError> {
        let State::Choosing(capabilities) = &self.state else { return Err(ChoiceError::NotAsked) };
        let capabilities = *capabilities;
        let algorithm = [Algorithm::HmacSha256, Algorithm::CmacAes128]
            .into_iter()
            .filter(|&algorithm| algorithm != Algorithm::CmacAes128 || choice.allows_cmac)
            .find(|&algorithm| capabilities.has(algorithm))
            .ok_or(ChoiceError::NoAlgorithm)?;
        let method = choice.authentication.method();
        if !capabilities.offers(method) {
            return Err(ChoiceError::NotOffered);
        }
        let has_key = capabilities.public_key_type & Capabilities::OOB_PUBLIC_KEY != 0;
        if matches!(&choice.authentication, Authentication::Static(value) if value.is_zero(algorithm)) {
            return Err(ChoiceError::ZeroStaticOob);
        }
        if choice.oob_public_key.is_some() && !has_key {
            return Err(ChoiceError::NoOobPublicKey);
        }
        choice.data.address.element(capabilities.elements - 1).ok_or(ChoiceError::Address)?;
        let start = Start { algorithm, oob_public_key: choice.oob_public_key.is_some(), method };
        let secrets = self.given.take().unwrap_or_else(|| Secrets::generate(&mut self.rng));
        self.timeout = match method {
            AuthenticationMethod::NoOob | AuthenticationMethod::StaticOob => PROVISIONING_TIMEOUT,
            _ => PROVISIONING_TIMEOUT_WITH_USER,
        };
        self.send(now, &ProvisioningPdu::Start(start));
        self.send(now, &ProvisioningPdu::from(&secrets.private_key.public_key()));
        let oob_public_key = choice.oob_public_key;
        let negotiated = Negotiated { capabilities, start, choice, secrets };
        match oob_public_key {
            None => self.state = State::Started(negotiated),
            Some(key) => {
                if let Err(failure) = self.exchange(now, negotiated, key) {
                    self.fail(failure);
                }
            }
        }
        Ok(())
    }

    /// Takes what the user read after [`ProvisionerEvent::EnterValue`].
    ///
    /// # Errors
    /// When nothing of the kind is asked for; the session goes on.
    pub fn enter_value(&mut self, now: Instant, value: &OobValue) -> Result<(), NotAsked> {
        match core::mem::replace(&mut self.state, State::Done) {
            State::Reading { exchanged, action, size } if value.fits(size, action.into()) => {
                self.confirm(now, exchanged, &value.auth_value());
                Ok(())
            }
            state => {
                self.state = state;
                Err(NotAsked)
            }
        }
    }

    /// Gives up, and closes the link.
    pub fn cancel(&mut self) {
        if !matches!(self.state, State::Done) {
            self.fail(ProvisionerFailure::Cancelled);
        }
    }

    fn step(&mut self, now: Instant, octets: &[u8]) -> Result<(), ProvisionerFailure> {
        let pdu = ProvisioningPdu::decode(octets).map_err(|_| ProvisionerFailure::Protocol)?;
        if let ProvisioningPdu::Failed(code) = pdu {
            return Err(ProvisionerFailure::Device(code));
        }
        match (core::mem::replace(&mut self.state, State::Done), pdu) {
            (State::Invited, ProvisioningPdu::Capabilities(capabilities)) => {
                self.state = State::Choosing(capabilities);
                self.events.push_back(ProvisionerEvent::Capabilities(capabilities));
            }
            (State::Started(negotiated), ProvisioningPdu::PublicKey(key)) => {
                let peer = PublicKey::new(key).ok_or(ProvisionerFailure::PublicKey)?;
                self.exchange(now, negotiated, peer)?;
            }
            (State::Typing { exchanged, auth_value }, ProvisioningPdu::InputComplete) => {
                self.hide_value();
                self.confirm(now, exchanged, &auth_value);
            }
            (State::Exchanged { exchanged, confirmation, own }, ProvisioningPdu::Confirmation(peer)) => {
                // A device that repeats our own value would be let in without knowing ours (CVE-2020-26560). Our
                // random value is revealed only to one that has committed itself.
                if peer == own {
                    return Err(ProvisionerFailure::Reflected);
                }
                if peer.len() != own.len() {
                    return Err(ProvisionerFailure::Protocol);
                }
                self.send(now, &ProvisioningPdu::Random(exchanged.random().to_vec()));
                self.state = State::Confirmed { exchanged, confirmation, peer };
            }
            (State::Confirmed { exchanged, confirmation, peer }, ProvisioningPdu::Random(random)) => {
                self.authenticate(now, &exchanged, &confirmation, &peer, &random)?;
            }
            (State::Sent(node), ProvisioningPdu::Complete) => {
                self.timer = None;
                self.close = Some(CloseReason::Success);
                self.events.push_back(ProvisionerEvent::Provisioned(node));
            }
            _ => return Err(ProvisionerFailure::Protocol),
        }
        Ok(())
    }

    fn exchange(
        &mut self,
        now: Instant,
        negotiated: Negotiated,
        peer: PublicKey,
    ) -> Result<(), ProvisionerFailure> {
        let Negotiated { capabilities, start, choice, secrets: Secrets { private_key, random } } = negotiated;
        let own = private_key.public_key();
        // CVE-2020-26556, CVE-2020-26558: a device that sends our own key back.
        if peer == own {
            return Err(ProvisionerFailure::PublicKey);
        }
        let secret = private_key.ecdh_secret(&peer);
        drop(private_key);
        let Choice { authentication, data, .. } = choice;
        let exchanged = Exchanged { capabilities, start, data, random, own, peer, secret };
        match authentication {
            Authentication::NoOob => self.confirm(now, exchanged, &AuthValue::NONE),
            Authentication::Static(value) => self.confirm(now, exchanged, &value),
            Authentication::Output { action, size } => {
                self.events.push_back(ProvisionerEvent::EnterValue { action, size });
                self.state = State::Reading { exchanged, action, size };
            }
            Authentication::Input { action, size } => {
                let value = OobValue::random(&mut self.rng, size, Kind::from(action));
                self.is_showing = true;
                self.state = State::Typing { exchanged, auth_value: value.auth_value() };
                self.events.push_back(ProvisionerEvent::ShowValue { action, size, value });
            }
        }
        Ok(())
    }

    fn confirm(&mut self, now: Instant, exchanged: Exchanged, auth_value: &AuthValue) {
        let Exchanged { capabilities, start, .. } = &exchanged;
        let inputs = ConfirmationInputs {
            invite: &[self.attention_s],
            capabilities: &capabilities.to_octets(),
            start: &start.to_octets(),
            provisioner: &exchanged.own,
            device: &exchanged.peer,
        };
        let confirmation = Confirmation::new(start.algorithm, &inputs, &exchanged.secret, auth_value);
        let own = confirmation.of(exchanged.random());
        self.send(now, &ProvisioningPdu::Confirmation(own.clone()));
        self.state = State::Exchanged { exchanged, confirmation, own };
    }

    fn authenticate(
        &mut self,
        now: Instant,
        exchanged: &Exchanged,
        confirmation: &Confirmation,
        peer: &[u8],
        random: &[u8],
    ) -> Result<(), ProvisionerFailure> {
        let own = exchanged.random();
        if random == own {
            return Err(ProvisionerFailure::Reflected);
        }
        if random.len() != own.len() {
            return Err(ProvisionerFailure::Protocol);
        }
        if confirmation.of(random) != peer {
            return Err(ProvisionerFailure::ConfirmationFailed);
        }
        let session = Session::new(&exchanged.secret, &confirmation.provisioning_salt(own, random));
        let secured = session.encrypt(&exchanged.data.to_octets());
        let Exchanged { capabilities: Capabilities { elements, .. }, start, data, .. } = exchanged;
        let (address, elements) = (data.address, *elements);
        self.events.push_back(ProvisionerEvent::Addresses { address, elements });
        self.send(now, &ProvisioningPdu::Data(secured));
        self.state = State::Sent(NewNode {
            address,
            elements,
            dev_key: session.dev_key().clone(),
            algorithm: start.algorithm,
            is_authenticated: start.oob_public_key || start.method != AuthenticationMethod::NoOob,
        });
        Ok(())
    }

    fn send(&mut self, now: Instant, pdu: &ProvisioningPdu) {
        self.transmit.push_back(pdu.encode());
        self.timer = Some(now + self.timeout);
    }

    fn hide_value(&mut self) {
        if core::mem::take(&mut self.is_showing) {
            self.events.push_back(ProvisionerEvent::HideValue);
        }
    }

    /// A provisioner that meets an error closes the link at once (MshPRT §5.4.4).
    fn fail(&mut self, failure: ProvisionerFailure) {
        self.state = State::Done;
        self.timer = None;
        self.transmit.clear();
        self.hide_value();
        self.close = match failure {
            ProvisionerFailure::LinkEnded(_) => None,
            ProvisionerFailure::Timeout => Some(CloseReason::Timeout),
            _ => Some(CloseReason::Fail),
        };
        self.events.push_back(ProvisionerEvent::Failed(failure));
    }
}

impl Protocol for Provisioner {
    fn handle_link_open(&mut self, now: Instant) {
        if matches!(self.state, State::Closed) {
            self.state = State::Invited;
            self.send(now, &ProvisioningPdu::Invite { attention_s: self.attention_s });
        }
    }

    fn handle_pdu(&mut self, now: Instant, pdu: &[u8]) {
        if matches!(self.state, State::Closed | State::Done) {
            return;
        }
        self.timer = Some(now + self.timeout);
        if let Err(failure) = self.step(now, pdu) {
            self.fail(failure);
        }
    }

    fn handle_delivered(&mut self, _now: Instant) {}

    fn handle_link_end(&mut self, _now: Instant, end: LinkEnd) {
        if !matches!(self.state, State::Done) {
            self.fail(ProvisionerFailure::LinkEnded(end));
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.timer.is_some_and(|at| at <= now) {
            self.fail(ProvisionerFailure::Timeout);
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
        matches!(self.state, State::Done)
    }
}
