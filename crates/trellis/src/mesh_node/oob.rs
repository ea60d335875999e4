//! Authentication out of band, as flags and commands name it and lines tell it.

use anyhow::{Context as _, bail, ensure};
use mesh_crypto::provisioning::AuthValue;
use mesh_crypto::{PrivateKey, PublicKey};
use mesh_proto::provisioning::{Authentication, OobActions, OobValue};
use mesh_wire::provisioning::{Capabilities, InputAction, MAX_OOB_SIZE, OutputAction};
use serde_json::{Value, json};

use super::{any_octets, octets, seed};

const OUTPUT: [(&str, OutputAction); 5] = [
    ("blink", OutputAction::Blink),
    ("beep", OutputAction::Beep),
    ("vibrate", OutputAction::Vibrate),
    ("number", OutputAction::Numeric),
    ("string", OutputAction::Alphanumeric),
];

const INPUT: [(&str, InputAction); 4] = [
    ("push", InputAction::Push),
    ("twist", InputAction::Twist),
    ("number", InputAction::Numeric),
    ("string", InputAction::Alphanumeric),
];

/// How a device can be authenticated.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeviceOob {
    pub(crate) static_value: Option<Vec<u8>>,
    pub(crate) output: OobActions,
    pub(crate) input: OobActions,
    pub(crate) key: Option<OobKey>,
    /// Whether it refuses to be provisioned without authentication.
    pub(crate) is_required: bool,
}

/// The key pair whose public key is told out of band.
#[derive(Clone, Debug)]
pub(crate) enum OobKey {
    /// The one that is stored; if none is, a new one.
    Random,
    Given(PrivateKey),
}

/// How a provisioner authenticates a device.
#[derive(Clone, Debug)]
pub(super) struct ProvisionerOob {
    pub(super) method: Method,
    pub(super) public_key: Option<PublicKey>,
}

/// A way to authenticate; without a size, the one that suits.
#[derive(Clone, Debug)]
pub(super) enum Method {
    None,
    Static(Vec<u8>),
    Output(OutputAction, Option<u8>),
    Input(InputAction, Option<u8>),
}

impl ProvisionerOob {
    /// What follows UUID and address: `[static HEX|output ACTION[:SIZE]|input ACTION[:SIZE]] [key HEX]`.
    pub(super) fn parse(words: &[&str]) -> anyhow::Result<Self> {
        let (method, rest) = match *words {
            ["static", value, ref rest @ ..] => (Method::Static(static_value(value)?), rest),
            ["output", action, ref rest @ ..] => {
                let (action, size) = with_size(action)?;
                (Method::Output(output_action(action)?, size), rest)
            }
            ["input", action, ref rest @ ..] => {
                let (action, size) = with_size(action)?;
                (Method::Input(input_action(action)?, size), rest)
            }
            ref rest => (Method::None, rest),
        };
        let public_key = match *rest {
            [] => None,
            ["key", key] => {
                let key = PublicKey::new(octets(key)?);
                Some(key.context(
                    "this public key is no point of the curve P-256; compare it with the device's",
                )?)
            }
            [word, ..] => bail!("{word} is no way to authenticate; say static, output, input or key"),
        };
        Ok(Self { method, public_key })
    }

    /// What is chosen of what the device can do.
    pub(super) fn authentication(&self, capabilities: &Capabilities) -> Authentication {
        // Nobody counts up to 9,999; who wants to, says the size.
        let fitting = |is_counted: bool, most: u8| if is_counted { 1 } else { most.min(MAX_OOB_SIZE) };
        match self.method {
            Method::None => Authentication::NoOob,
            Method::Static(ref value) => Authentication::Static(AuthValue::from_octets(value)),
            Method::Output(action, size) => {
                let size = size.unwrap_or_else(|| fitting(action.is_counted(), capabilities.output_size));
                Authentication::Output { action, size }
            }
            Method::Input(action, size) => {
                let size = size.unwrap_or_else(|| fitting(action.is_counted(), capabilities.input_size));
                Authentication::Input { action, size }
            }
        }
    }
}

impl DeviceOob {
    /// Whether what it says of itself makes sense (MshPRT §5.4.1.2).
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let can = self.static_value.is_some() || self.output.actions != 0 || self.input.actions != 0;
        ensure!(
            can || !self.is_required,
            "--only-oob needs a way to authenticate; add --static-oob, --output-oob or --input-oob"
        );
        Ok(())
    }

    /// The key pair whose public key is told out of band; `stored` is that of an earlier run.
    pub(super) fn key_pair(&self, stored: Option<PrivateKey>) -> anyhow::Result<Option<PrivateKey>> {
        Ok(match &self.key {
            None => None,
            Some(OobKey::Given(key)) => Some(key.clone()),
            Some(OobKey::Random) => Some(match stored {
                Some(key) => key,
                None => loop {
                    if let Some(key) = PrivateKey::generate(&seed()?) {
                        break key;
                    }
                },
            }),
        })
    }
}

/// `random`, or the private key itself.
pub(crate) fn key(text: &str) -> anyhow::Result<OobKey> {
    if text == "random" {
        return Ok(OobKey::Random);
    }
    let key = PrivateKey::new(&octets(text)?).filter(PrivateKey::is_in_range);
    key.map(OobKey::Given).context(
        "a private key is 1 to half of the order of the curve P-256 (MshPRT §5.4.3.1); say random for a new one",
    )
}

/// A static value: 1 to 32 octets that not everybody knows.
pub(crate) fn static_value(text: &str) -> anyhow::Result<Vec<u8>> {
    let value = any_octets(text)?;
    ensure!(value.len() <= 32, "a static value has at most 32 octets, this one has {}", value.len());
    ensure!(
        value.iter().any(|&octet| octet != 0),
        "a static value of nothing or of zeros authenticates nobody; take random octets"
    );
    Ok(value)
}

pub(crate) fn output_action(text: &str) -> anyhow::Result<OutputAction> {
    find(&OUTPUT, text)
}

pub(crate) fn input_action(text: &str) -> anyhow::Result<InputAction> {
    find(&INPUT, text)
}

fn find<T: Copy>(names: &[(&str, T)], text: &str) -> anyhow::Result<T> {
    let found = names.iter().find(|(name, _)| *name == text);
    found.map(|&(_, action)| action).with_context(|| {
        let known: Vec<&str> = names.iter().map(|&(name, _)| name).collect();
        format!("{text} is no action; say {}", known.join(", "))
    })
}

fn with_size(text: &str) -> anyhow::Result<(&str, Option<u8>)> {
    let Some((action, size)) = text.split_once(':') else { return Ok((text, None)) };
    let size = size.parse().ok().filter(|size| (1..=MAX_OOB_SIZE).contains(size));
    Ok((action, Some(size.context("a value has 1 to 8 digits or characters")?)))
}

/// The name that a person knows an action by.
fn name<T: Copy + PartialEq>(names: &[(&'static str, T)], action: T) -> &'static str {
    names.iter().find(|&&(_, known)| known == action).map_or("?", |&(name, _)| name)
}

pub(super) fn output_name(action: OutputAction) -> &'static str {
    name(&OUTPUT, action)
}

pub(super) fn input_name(action: InputAction) -> &'static str {
    name(&INPUT, action)
}

/// What is to be shown: how often something happens as a number, what is read as a string with all its digits.
pub(super) fn show(action: &str, is_counted: bool, size: u8, value: &OobValue) -> Value {
    let value = match value {
        OobValue::Number(number) if is_counted => json!(number),
        OobValue::Number(number) => json!(format!("{number:0width$}", width = usize::from(size))),
        OobValue::Text(text) => json!(text),
    };
    json!({"event": "show", "action": action, "value": value})
}

/// What a device said of itself.
pub(super) fn describe(capabilities: &Capabilities) -> Value {
    let output = OUTPUT.iter().filter(|(_, x)| capabilities.output_actions & 1 << *x as u8 != 0);
    let input = INPUT.iter().filter(|(_, x)| capabilities.input_actions & 1 << *x as u8 != 0);
    json!({
        "event": "capabilities",
        "elements": capabilities.elements,
        "algorithms": capabilities.algorithms,
        "public_key": capabilities.public_key_type & Capabilities::OOB_PUBLIC_KEY != 0,
        "static": capabilities.oob_type & Capabilities::STATIC_OOB != 0,
        "only_oob": capabilities.oob_type & Capabilities::ONLY_OOB != 0,
        "output": output.map(|(name, _)| *name).collect::<Vec<_>>(),
        "output_size": capabilities.output_size,
        "input": input.map(|(name, _)| *name).collect::<Vec<_>>(),
        "input_size": capabilities.input_size,
    })
}
