//! Packets between bytes and the notation of the cases. Written apart from our codec, so that what the cases send
//! and expect has another source than what they test.

use anyhow::{Context as _, bail};

/// The fields of a packet as the notation has them: a name and a value, in their order.
pub(super) type Fields = Vec<(String, String)>;

/// A packet in the notation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) name: String,
    pub(super) fields: Fields,
}

#[derive(Clone, Copy)]
enum Type {
    U8,
    U16,
    U32,
    Variable,
    Text,
    Pair,
}

/// The properties of MQTT 5.0 (§2.2.2.2), by the name that the cases use.
const PROPERTIES: [(&str, u8, Type); 27] = [
    ("payload_format", 0x01, Type::U8),
    ("message_expiry", 0x02, Type::U32),
    ("content_type", 0x03, Type::Text),
    ("response_topic", 0x08, Type::Text),
    ("correlation", 0x09, Type::Text),
    ("subscription_id", 0x0b, Type::Variable),
    ("session_expiry", 0x11, Type::U32),
    ("assigned_id", 0x12, Type::Text),
    ("server_keep_alive", 0x13, Type::U16),
    ("auth_method", 0x15, Type::Text),
    ("auth_data", 0x16, Type::Text),
    ("problem_information", 0x17, Type::U8),
    ("will_delay", 0x18, Type::U32),
    ("request_response", 0x19, Type::U8),
    ("response_information", 0x1a, Type::Text),
    ("server_reference", 0x1c, Type::Text),
    ("reason", 0x1f, Type::Text),
    ("receive_maximum", 0x21, Type::U16),
    ("alias_maximum", 0x22, Type::U16),
    ("alias", 0x23, Type::U16),
    ("maximum_qos", 0x24, Type::U8),
    ("retain_available", 0x25, Type::U8),
    ("user", 0x26, Type::Pair),
    ("maximum_packet", 0x27, Type::U32),
    ("wildcards", 0x28, Type::U8),
    ("subscription_ids", 0x29, Type::U8),
    ("shared", 0x2a, Type::U8),
];

const TYPES: [&str; 16] = [
    "?0",
    "CONNECT",
    "CONNACK",
    "PUBLISH",
    "PUBACK",
    "PUBREC",
    "PUBREL",
    "PUBCOMP",
    "SUBSCRIBE",
    "SUBACK",
    "UNSUBSCRIBE",
    "UNSUBACK",
    "PINGREQ",
    "PINGRESP",
    "DISCONNECT",
    "AUTH",
];

impl Packet {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &str) -> anyhow::Result<u32> {
        self.get(name).map_or(Ok(0), number)
    }

    #[expect(clippy::needless_pass_by_value, reason = "numbers and texts alike")]
    fn push(&mut self, name: &str, value: impl ToString) {
        self.fields.push((name.to_owned(), value.to_string()));
    }

    /// The bytes of a packet that a client sends.
    pub(super) fn encode(&self, version: u8) -> anyhow::Result<Vec<u8>> {
        let (mut flags, mut body) = (0, Vec::new());
        match self.name.as_str() {
            "CONNECT" => self.encode_connect(version, &mut body)?,
            "PUBLISH" => {
                let qos = self.number("qos")?;
                flags = self.number("dup")? << 3 | qos << 1 | self.number("retain")?;
                text(self.get("topic").unwrap_or_default().as_bytes(), &mut body)?;
                if qos > 0 {
                    self.packet_id(&mut body)?;
                }
                self.properties(version, "", &mut body)?;
                body.extend_from_slice(self.get("payload").unwrap_or_default().as_bytes());
            }
            "PUBACK" | "PUBREC" | "PUBREL" | "PUBCOMP" => {
                flags = if self.name == "PUBREL" { 2 } else { 0 };
                self.packet_id(&mut body)?;
                self.reason(version, &mut body)?;
            }
            "SUBSCRIBE" => {
                flags = 2;
                self.packet_id(&mut body)?;
                self.properties(version, "", &mut body)?;
                for filter in self.all("f") {
                    let (filter, options) = filter.rsplit_once(':').context("f=FILTER:OPTIONS")?;
                    text(filter.as_bytes(), &mut body)?;
                    body.push(u8::try_from(number(options)?)?);
                }
            }
            "UNSUBSCRIBE" => {
                flags = 2;
                self.packet_id(&mut body)?;
                self.properties(version, "", &mut body)?;
                for filter in self.all("f") {
                    text(filter.as_bytes(), &mut body)?;
                }
            }
            "PINGREQ" => {}
            "DISCONNECT" | "AUTH" => self.reason(version, &mut body)?,
            other => bail!("{other} is nothing that a client sends"),
        }
        let kind = TYPES.iter().position(|&name| name == self.name).context("a packet")?;
        let mut packet = vec![u8::try_from(kind << 4)? | u8::try_from(flags)?];
        variable(u32::try_from(body.len())?, &mut packet)?;
        packet.append(&mut body);
        Ok(packet)
    }

    fn encode_connect(&self, version: u8, body: &mut Vec<u8>) -> anyhow::Result<()> {
        text(if version == 3 { b"MQIsdp" } else { b"MQTT" }, body)?;
        let will = self.get("will");
        let has = |name: &str| u32::from(self.get(name).is_some());
        let clean = self.get("clean").map_or(Ok(1), number)?;
        let flags = clean << 1
            | has("will") << 2
            | self.number("will_qos")? << 3
            | self.number("will_retain")? << 5
            | has("password") << 6
            | has("username") << 7;
        body.extend([version, u8::try_from(flags)?]);
        body.extend(u16::try_from(self.number("keep_alive")?)?.to_be_bytes());
        self.properties(version, "", body)?;
        text(self.get("id").unwrap_or_default().as_bytes(), body)?;
        if let Some(topic) = will {
            self.properties(version, "will.", body)?;
            text(topic.as_bytes(), body)?;
            text(self.get("will_payload").unwrap_or_default().as_bytes(), body)?;
        }
        for name in ["username", "password"] {
            if let Some(value) = self.get(name) {
                text(value.as_bytes(), body)?;
            }
        }
        Ok(())
    }

    fn packet_id(&self, body: &mut Vec<u8>) -> anyhow::Result<()> {
        body.extend(u16::try_from(self.get("pid").map_or(Ok(1), number)?)?.to_be_bytes());
        Ok(())
    }

    fn reason(&self, version: u8, body: &mut Vec<u8>) -> anyhow::Result<()> {
        let mut properties = Vec::new();
        self.properties(version, "", &mut properties)?;
        if version == 5 && (self.get("rc").is_some() || properties.len() > 1) {
            body.push(u8::try_from(self.number("rc")?)?);
            if properties.len() > 1 {
                body.append(&mut properties);
            }
        }
        Ok(())
    }

    /// The properties whose names begin with `prefix`, with their length.
    fn properties(&self, version: u8, prefix: &str, body: &mut Vec<u8>) -> anyhow::Result<()> {
        if version != 5 {
            return Ok(());
        }
        let mut list = Vec::new();
        for (key, value) in &self.fields {
            let Some(name) = key.strip_prefix(prefix) else { continue };
            let Some((_, id, kind)) = PROPERTIES.iter().find(|(known, ..)| *known == name) else { continue };
            list.push(*id);
            match kind {
                Type::U8 => list.push(u8::try_from(number(value)?)?),
                Type::U16 => list.extend(u16::try_from(number(value)?)?.to_be_bytes()),
                Type::U32 => list.extend(number(value)?.to_be_bytes()),
                Type::Variable => variable(number(value)?, &mut list)?,
                Type::Text => text(value.as_bytes(), &mut list)?,
                Type::Pair => {
                    let (name, value) = value.split_once(':').context("user=NAME:VALUE")?;
                    text(name.as_bytes(), &mut list)?;
                    text(value.as_bytes(), &mut list)?;
                }
            }
        }
        variable(u32::try_from(list.len())?, body)?;
        body.append(&mut list);
        Ok(())
    }

    /// The first packet in `bytes`, which a server sent, and its length; `None`: it is not whole.
    pub(super) fn decode(bytes: &[u8], version: u8) -> anyhow::Result<Option<(Self, usize)>> {
        let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
        let mut cursor = Cursor(rest);
        let Ok(length) = cursor.variable() else { return Ok(None) };
        let header = bytes.len() - cursor.0.len();
        let total = header + usize::try_from(length)?;
        if bytes.len() < total {
            return Ok(None);
        }
        let mut packet = Self { name: TYPES[usize::from(first >> 4)].to_owned(), fields: Vec::new() };
        packet.decode_body(first & 0x0f, Cursor(&bytes[header..total]), version)?;
        packet.push("size", total);
        Ok(Some((packet, total)))
    }

    fn decode_body(&mut self, flags: u8, mut cursor: Cursor<'_>, version: u8) -> anyhow::Result<()> {
        let is_pubrel = self.name == "PUBREL";
        if self.name != "PUBLISH" && flags != if is_pubrel { 2 } else { 0 } {
            bail!("{} with flags {flags:#x}", self.name);
        }
        match self.name.as_str() {
            "CONNACK" => {
                let flags = cursor.u8()?;
                if flags > 1 {
                    bail!("reserved bits in CONNACK");
                }
                self.push("session", flags);
                self.push("rc", code(cursor.u8()?));
                self.decode_properties(version, &mut cursor)?;
            }
            "PUBLISH" => {
                let qos = flags >> 1 & 3;
                self.push("dup", flags >> 3);
                self.push("qos", qos);
                self.push("retain", flags & 1);
                self.push("topic", cursor.text()?);
                if qos > 0 {
                    self.push("pid", cursor.u16()?);
                }
                self.decode_properties(version, &mut cursor)?;
                self.push("payload", String::from_utf8_lossy(cursor.0));
                cursor.0 = &[];
            }
            "PUBACK" | "PUBREC" | "PUBREL" | "PUBCOMP" => {
                self.push("pid", cursor.u16()?);
                self.decode_reason(version, &mut cursor)?;
            }
            "SUBACK" | "UNSUBACK" => {
                self.push("pid", cursor.u16()?);
                self.decode_properties(version, &mut cursor)?;
                let codes: Vec<String> = cursor.0.iter().map(|&byte| code(byte)).collect();
                self.push("rc", codes.join(","));
                cursor.0 = &[];
            }
            "DISCONNECT" | "AUTH" => self.decode_reason(version, &mut cursor)?,
            "PINGRESP" => {}
            other => bail!("a server sent {other}"),
        }
        if cursor.0.is_empty() { Ok(()) } else { bail!("bytes are left over in {}", self.name) }
    }

    fn decode_reason(&mut self, version: u8, cursor: &mut Cursor<'_>) -> anyhow::Result<()> {
        let reason = if version == 5 && !cursor.0.is_empty() { cursor.u8()? } else { 0 };
        self.push("rc", code(reason));
        if cursor.0.is_empty() { Ok(()) } else { self.decode_properties(version, cursor) }
    }

    fn decode_properties(&mut self, version: u8, cursor: &mut Cursor<'_>) -> anyhow::Result<()> {
        if version != 5 {
            return Ok(());
        }
        let length = usize::try_from(cursor.variable()?)?;
        let mut list = Cursor(cursor.take(length)?);
        while !list.0.is_empty() {
            let id = list.u8()?;
            let (name, _, kind) =
                PROPERTIES.iter().find(|(_, known, _)| *known == id).context("a property of MQTT 5.0")?;
            let value = match kind {
                Type::U8 => list.u8()?.to_string(),
                Type::U16 => list.u16()?.to_string(),
                Type::U32 => u32::from_be_bytes(list.take(4)?.try_into()?).to_string(),
                Type::Variable => list.variable()?.to_string(),
                Type::Text => list.text()?,
                Type::Pair => format!("{}:{}", list.text()?, list.text()?),
            };
            self.push(name, value);
        }
        Ok(())
    }
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> anyhow::Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).context("a field goes beyond its packet")?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> anyhow::Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> anyhow::Result<u16> {
        Ok(u16::from_be_bytes(self.take(2)?.try_into()?))
    }

    fn text(&mut self) -> anyhow::Result<String> {
        let length = usize::from(self.u16()?);
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    fn variable(&mut self) -> anyhow::Result<u32> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        bail!("a length of more than four bytes")
    }
}

/// A reason code as the cases write it: successes as numbers, failures in hexadecimal.
fn code(byte: u8) -> String {
    if byte < 0x80 { byte.to_string() } else { format!("{byte:#04x}") }
}

/// A number, decimal or with `0x`.
pub(super) fn number(text: &str) -> anyhow::Result<u32> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.with_context(|| format!("{text:?} is no number"))
}

fn text(bytes: &[u8], body: &mut Vec<u8>) -> anyhow::Result<()> {
    body.extend(u16::try_from(bytes.len())?.to_be_bytes());
    body.extend_from_slice(bytes);
    Ok(())
}

fn variable(mut value: u32, body: &mut Vec<u8>) -> anyhow::Result<()> {
    loop {
        let low = u8::try_from(value & 0x7f)?;
        value >>= 7;
        if value == 0 {
            body.push(low);
            return Ok(());
        }
        body.push(low | 0x80);
    }
}
