//! Runs one case against a broker.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::packet::{Packet, number};

/// How long a broker may take for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long something that must not come is waited for.
const SILENCE: Duration = Duration::from_millis(60);

/// One client of a case.
struct Peer {
    stream: TcpStream,
    version: u8,
    bytes: Vec<u8>,
    packets: VecDeque<Packet>,
    is_closed: bool,
}

/// What the cases run against.
#[derive(Clone, Copy)]
pub(super) struct Broker<'a> {
    pub(super) address: &'a str,
    /// Whether it may end a connection of MQTT 5.0 without saying why, which the standard mostly only advises.
    pub(super) is_lenient: bool,
}

/// A case under way.
struct Run<'a> {
    broker: Broker<'a>,
    version: u8,
    peers: BTreeMap<String, Peer>,
    variables: BTreeMap<String, String>,
    prefix: String,
}

/// Runs the steps of a case in one version of the protocol. `prefix` takes the place of `%`, so that cases that run
/// at the same time do not see one another.
pub(super) fn run(broker: Broker<'_>, version: u8, prefix: &str, steps: &str) -> anyhow::Result<()> {
    let mut run = Run {
        broker,
        version,
        peers: BTreeMap::new(),
        variables: BTreeMap::new(),
        prefix: prefix.to_owned(),
    };
    for line in steps.lines() {
        let line = line.split(" #").next().unwrap_or_default().trim();
        let line = match (line.strip_prefix("5| "), line.strip_prefix("3| ")) {
            (Some(rest), _) if version == 5 => rest,
            (_, Some(rest)) if version < 5 => rest,
            (None, None) if !line.is_empty() => line,
            _ => continue,
        };
        run.step(line.trim()).with_context(|| format!("at `{line}`"))?;
    }
    Ok(())
}

impl Run<'_> {
    fn step(&mut self, line: &str) -> anyhow::Result<()> {
        let line = line.replace('%', &self.prefix);
        let (head, rest) = line.split_once(' ').unwrap_or((&line, ""));
        if head == "wait" {
            pause(Duration::from_secs_f32(rest.parse()?));
            return Ok(());
        }
        if let Some(name) = head.strip_suffix('>') {
            return self.send(name, rest);
        }
        if let Some(name) = head.strip_suffix("<~") {
            return self.expect_somewhere(name, rest);
        }
        if let Some(name) = head.strip_suffix('<') {
            return self.expect(name, rest);
        }
        match rest.split_once(' ').unwrap_or((rest, "")) {
            ("connect", fields) => {
                self.send(head, &format!("CONNECT id={}{head} {fields}", self.prefix))?;
                self.expect(head, "CONNACK rc=0")
            }
            ("subscribe", fields) => {
                self.send(head, &format!("SUBSCRIBE pid=999 {fields}"))?;
                self.expect(head, "SUBACK pid=999 rc=0|1|2|0,0|1,1|2,2|0,1|1,2|1,0|0,1,2")
            }
            ("drop", _) => {
                self.peers.remove(head).context("there is no such connection")?;
                // The broker is to see it before the next step.
                pause(SILENCE);
                Ok(())
            }
            _ => bail!("this is no step"),
        }
    }

    /// The connection of that name, which is made when it is first used.
    fn peer(&mut self, name: &str) -> anyhow::Result<&mut Peer> {
        if !self.peers.contains_key(name) {
            let address = self.broker.address.to_socket_addrs()?.next().context("an address")?;
            let stream = TcpStream::connect_timeout(&address, PATIENCE).context("cannot connect")?;
            stream.set_nodelay(true)?;
            let (bytes, packets) = (Vec::new(), VecDeque::new());
            let peer = Peer { stream, version: self.version, bytes, packets, is_closed: false };
            self.peers.insert(name.to_owned(), peer);
        }
        self.peers.get_mut(name).context("it is there")
    }

    fn send(&mut self, name: &str, rest: &str) -> anyhow::Result<()> {
        if let Some(hex) = rest.strip_prefix("hex ") {
            let bytes = bytes_of(hex)?;
            // A broker may have had enough before all is written.
            let _ = self.peer(name)?.stream.write_all(&bytes);
            return Ok(());
        }
        // `pid=1..9` stands for as many packets.
        if let Some((head, range)) = rest.split_once("pid=").and_then(|(head, rest)| {
            rest.split_once("..").map(|(low, high)| (head.to_owned(), (low.to_owned(), high.to_owned())))
        }) {
            for pid in number(&range.0)?..=number(&range.1)? {
                self.send(name, &format!("{head}pid={pid}"))?;
            }
            return Ok(());
        }
        let packet = self.parse(rest)?;
        let version = packet.get("v").map_or(Ok(u32::from(self.version)), number)?;
        let peer = self.peer(name)?;
        if packet.name == "CONNECT" {
            peer.version = u8::try_from(version)?;
        }
        let bytes = packet.encode(peer.version)?;
        let _ = peer.stream.write_all(&bytes);
        Ok(())
    }

    fn parse(&self, text: &str) -> anyhow::Result<Packet> {
        let mut words = text.split(' ').filter(|word| !word.is_empty());
        let name = words.next().context("a packet")?.to_owned();
        let mut packet = Packet { name, fields: Vec::new() };
        for word in words {
            let (key, value) = word.split_once('=').with_context(|| format!("{word}: NAME=VALUE"))?;
            let value = match value.strip_prefix('$').filter(|name| self.variables.contains_key(*name)) {
                Some(name) => self.variables[name].clone(),
                None => repeated(value)?,
            };
            packet.fields.push((key.to_owned(), value));
        }
        Ok(packet)
    }

    fn expect(&mut self, name: &str, rest: &str) -> anyhow::Result<()> {
        if rest == "closed" {
            let next = self.peer(name)?.next()?;
            return match next {
                None => Ok(()),
                Some(packet) => bail!("got {packet:?}, where the connection was to be closed"),
            };
        }
        if rest == "nothing" {
            pause(SILENCE);
            self.send(name, "PINGREQ")?;
            return self.expect(name, "PINGRESP");
        }
        if let Some(codes) = rest.strip_prefix("ends ") {
            return self.expect_end(name, codes);
        }
        let wanted = self.parse(rest)?;
        let got = self.peer(name)?.next()?.context("the connection was closed")?;
        self.compare(&wanted, &got).with_context(|| format!("got {got:?}"))
    }

    /// Among what comes, in whatever order.
    fn expect_somewhere(&mut self, name: &str, rest: &str) -> anyhow::Result<()> {
        let wanted = self.parse(rest)?;
        let mut others = VecDeque::new();
        let outcome = loop {
            match self.peer(name)?.next() {
                Ok(Some(packet)) if self.compare(&wanted, &packet).is_ok() => break Ok(()),
                Ok(Some(packet)) => others.push_back(packet),
                Ok(None) => break Err(anyhow::anyhow!("the connection was closed")),
                Err(error) => break Err(error.context(format!("only got {others:?}"))),
            }
        };
        let peer = self.peer(name)?;
        others.append(&mut peer.packets);
        peer.packets = others;
        outcome
    }

    /// The broker ends the connection: in 5.0 with one of these reason codes, in 3.x without a word. With a question
    /// mark the standard leaves it open whether the code is sent.
    fn expect_end(&mut self, name: &str, codes: &str) -> anyhow::Result<()> {
        let (codes, is_optional) = match codes.strip_suffix('?') {
            Some(codes) => (codes, true),
            None => (codes, false),
        };
        let peer = self.peer(name)?;
        let is_v5 = peer.version == 5;
        match peer.next()? {
            None if !is_v5 || is_optional || self.broker.is_lenient => Ok(()),
            None => bail!("the connection was closed without a reason code"),
            Some(packet) => {
                ensure!(is_v5, "got {packet:?}, where the connection was to be closed");
                ensure!(matches!(packet.name.as_str(), "DISCONNECT" | "CONNACK"), "got {packet:?}");
                let code = packet.get("rc").unwrap_or_default();
                ensure!(codes.split('|').any(|wanted| wanted == code), "got {packet:?}, not {codes}");
                self.expect(name, "closed")
            }
        }
    }

    fn compare(&mut self, wanted: &Packet, got: &Packet) -> anyhow::Result<()> {
        ensure!(wanted.name == got.name, "wanted {}", wanted.name);
        for (key, value) in &wanted.fields {
            let found: Vec<&str> =
                got.fields.iter().filter(|(name, _)| name == key).map(|(_, value)| value.as_str()).collect();
            if let Some(name) = value.strip_prefix('$') {
                let value = (*found.first().with_context(|| format!("no {key}"))?).to_owned();
                self.variables.insert(name.to_owned(), value);
                continue;
            }
            let is_right = match value.as_str() {
                "-" => found.is_empty(),
                "*" => !found.is_empty(),
                value => found.iter().any(|found| value.split('|').any(|wanted| is_one(wanted, found))),
            };
            ensure!(is_right, "{key} is {found:?}, not {value}");
        }
        Ok(())
    }
}

impl Peer {
    /// The next packet; `None`: the connection was closed.
    fn next(&mut self) -> anyhow::Result<Option<Packet>> {
        let started = Instant::now();
        loop {
            if let Some(packet) = self.packets.pop_front() {
                return Ok(Some(packet));
            }
            while let Some((packet, length)) = Packet::decode(&self.bytes, self.version)? {
                self.bytes.drain(..length);
                self.packets.push_back(packet);
            }
            if !self.packets.is_empty() {
                continue;
            }
            if self.is_closed {
                return Ok(None);
            }
            let left = PATIENCE.saturating_sub(started.elapsed());
            ensure!(!left.is_zero(), "nothing came within {PATIENCE:?}");
            self.stream.set_read_timeout(Some(left))?;
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => self.is_closed = true,
                Ok(count) => self.bytes.extend_from_slice(&chunk[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                // A reset is an end, too.
                Err(_) => self.is_closed = true,
            }
        }
    }
}

/// Whether a value is the wanted one, or within the wanted range `LOW..HIGH`, both included.
fn is_one(wanted: &str, found: &str) -> bool {
    if wanted == found {
        return true;
    }
    let range = wanted.split_once("..").and_then(|(low, high)| Some((number(low).ok()?, number(high).ok()?)));
    range.is_some_and(|(low, high)| number(found).is_ok_and(|found| (low..=high).contains(&found)))
}

/// A value as it is written; `TEXT*COUNT` at its beginning stands for as many repetitions.
fn repeated(value: &str) -> anyhow::Result<String> {
    let Some((text, rest)) = value.split_once('*') else { return Ok(value.to_owned()) };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    if text.is_empty() || digits == 0 {
        return Ok(value.to_owned());
    }
    Ok(text.repeat(rest[..digits].parse()?) + &rest[digits..])
}

/// Bytes in hexadecimal; `"text"` stands for its own, `XX*COUNT` for as many of the same.
fn bytes_of(text: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if let Some(quoted) = word.strip_prefix('"').and_then(|word| word.strip_suffix('"')) {
            bytes.extend_from_slice(quoted.as_bytes());
            continue;
        }
        let (hex, count) =
            word.split_once('*').map_or(Ok((word, 1)), |(hex, count)| anyhow::Ok((hex, count.parse()?)))?;
        ensure!(hex.len() % 2 == 0, "{word}: two digits a byte");
        let unit: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).with_context(|| format!("{word} is no byte")))
            .collect::<anyhow::Result<_>>()?;
        bytes.extend(unit.repeat(count));
    }
    Ok(bytes)
}

#[expect(clippy::disallowed_methods, reason = "the time of another process cannot be moved")]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
