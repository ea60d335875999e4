//! SCRAM-SHA-256 (RFC 5802, RFC 7677), both ends: a client proves that it knows a password, the server that it knows
//! it too, and neither sends it. For the enhanced authentication of MQTT 5.0 (§4.12).
//!
//! Without channel binding. Names and passwords are taken as they are: one with letters that can be written in several
//! ways has to be written as it was when its entry was made (SASLprep is left out).
//!
//! What the server keeps is `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`, the form that PostgreSQL has. It is
//! made for few iterations, which devices have to go through at each connection: whoever steals the file can try
//! passwords faster than with Argon2, so it is for long ones.

use std::collections::BTreeMap;
use std::fmt;

use base64ct::{Base64, Encoding as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// The Authentication Method.
pub const METHOD: &str = "SCRAM-SHA-256";

/// Iterations of a new entry; RFC 7677 wants 4,096 at least. A tenth of a second for a small device.
pub const ITERATIONS: u32 = 16_384;

/// What a client is ready for, so that a server cannot keep it busy.
const MAX_ITERATIONS: u32 = 1_000_000;

/// RFC 5802 §7: a client without channel binding says `n,,`.
const NO_CHANNEL_BINDING: &str = "n,,";

/// What a verifier begins with in the password file.
const PREFIX: &str = "SCRAM-SHA-256$";

type Key = [u8; 32];

/// What a server has to know to verify a user, from which the password cannot be told.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: Key,
    server_key: Key,
}

/// Why an exchange failed. What it says is for logs; the other side is told no more than that it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// A message is not as RFC 5802 has it, or wants what there is not.
    #[error("a SCRAM message is malformed")]
    Malformed,
    /// The client did not prove that it knows the password, or there is no such user.
    #[error("the user name or the password is wrong")]
    Denied,
    /// The server did not prove that it knows the password.
    #[error("the server does not know the password either")]
    Impostor,
    /// The server wants more work than is reasonable.
    #[error("the server asks for fewer than 4,096 or more than 1,000,000 iterations")]
    Iterations,
}

/// The users that can be verified, and what nobody can foresee.
#[derive(Clone)]
pub struct Verifiers {
    users: BTreeMap<String, Verifier>,
    secret: Key,
}

/// A server's side, which waits for the client's proof.
#[derive(Clone)]
pub struct ServerExchange {
    username: String,
    verifier: Verifier,
    is_known: bool,
    nonce: String,
    /// Both first messages, as they go into the signature.
    said: String,
}

/// A client's side.
#[derive(Clone)]
pub struct ClientExchange {
    password: Vec<u8>,
    nonce: String,
    first: String,
    /// What the server has to sign with, once it is known.
    server_signature: Option<Key>,
}

impl Verifier {
    /// Makes one of a password; `salt` is 16 bytes or more that nobody can foresee.
    pub fn new(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let salted = salted_password(password, salt, iterations);
        Self {
            iterations,
            salt: salt.to_vec(),
            stored_key: Sha256::digest(hmac(&salted, b"Client Key")).into(),
            server_key: hmac(&salted, b"Server Key"),
        }
    }

    /// Reads the form that [`Verifier`] is shown in; `None`: it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (work, keys) = text.strip_prefix(PREFIX)?.split_once('$')?;
        let ((iterations, salt), (stored, server)) = (work.split_once(':')?, keys.split_once(':')?);
        let key = |text| Base64::decode_vec(text).ok()?.try_into().ok();
        let verifier = Self {
            iterations: iterations.parse().ok()?,
            salt: Base64::decode_vec(salt).ok()?,
            stored_key: key(stored)?,
            server_key: key(server)?,
        };
        (verifier.iterations > 0 && !verifier.salt.is_empty()).then_some(verifier)
    }

    /// Its entry in a password file.
    pub(crate) fn to_text(&self) -> String {
        let [salt, stored, server] =
            [&self.salt[..], &self.stored_key, &self.server_key].map(Base64::encode_string);
        format!("{PREFIX}{}:{salt}${stored}:{server}", self.iterations)
    }
}

impl Verifiers {
    /// `secret` is what nobody can foresee.
    pub fn new(users: BTreeMap<String, Verifier>, secret: Key) -> Self {
        Self { users, secret }
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Takes a client's first message; returns the server's first one. `unique` is never given twice. Somebody who
    /// is not known gets a challenge like everybody else.
    ///
    /// # Errors
    /// When the message is none.
    pub fn begin(&self, client_first: &[u8], unique: u64) -> Result<(ServerExchange, Vec<u8>), ScramError> {
        let random = hmac(&self.secret, &unique.to_be_bytes());
        self.begin_with(client_first, &Base64::encode_string(&random[..18]))
    }

    fn begin_with(
        &self,
        client_first: &[u8],
        server_nonce: &str,
    ) -> Result<(ServerExchange, Vec<u8>), ScramError> {
        let message = str::from_utf8(client_first).map_err(|_| ScramError::Malformed)?;
        // Neither channel binding (`p=`, `y`) nor another user to act for (`a=`).
        let bare = message.strip_prefix(NO_CHANNEL_BINDING).ok_or(ScramError::Malformed)?;
        let mut attributes = bare.split(',');
        let username = attributes.next().and_then(|part| part.strip_prefix("n=")).and_then(unescape);
        let nonce = attributes.next().and_then(|part| part.strip_prefix("r="));
        let (Some(username), Some(nonce)) = (username, nonce) else { return Err(ScramError::Malformed) };
        if nonce.is_empty() || attributes.next().is_some_and(|part| part.starts_with("m=")) {
            return Err(ScramError::Malformed);
        }
        let known = self.users.get(&username);
        let verifier = known.cloned().unwrap_or_else(|| self.decoy(&username));
        let nonce = format!("{nonce}{server_nonce}");
        let challenge =
            format!("r={nonce},s={},i={}", Base64::encode_string(&verifier.salt), verifier.iterations);
        let said = format!("{bare},{challenge}");
        let exchange = ServerExchange { username, verifier, is_known: known.is_some(), nonce, said };
        Ok((exchange, challenge.into_bytes()))
    }

    /// Nobody can fulfil it, and it is the same whenever the same name is tried.
    fn decoy(&self, username: &str) -> Verifier {
        let salt = hmac(&self.secret, username.as_bytes());
        let iterations = self.users.values().next().map_or(ITERATIONS, |verifier| verifier.iterations);
        Verifier { iterations, salt: salt[..16].to_vec(), stored_key: Key::default(), server_key: salt }
    }
}

impl ServerExchange {
    /// Takes the client's proof; returns who it is, and the server's own.
    ///
    /// # Errors
    /// When the client proves nothing.
    pub fn finish(self, client_final: &[u8]) -> Result<(String, Vec<u8>), ScramError> {
        let message = str::from_utf8(client_final).map_err(|_| ScramError::Malformed)?;
        let (unproved, proof) = message.rsplit_once(",p=").ok_or(ScramError::Malformed)?;
        let proof: Key = Base64::decode_vec(proof)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(ScramError::Malformed)?;
        let expected = format!("c={},r={}", Base64::encode_string(NO_CHANNEL_BINDING.as_bytes()), self.nonce);
        if unproved != expected {
            return Err(ScramError::Malformed);
        }
        let said = format!("{},{unproved}", self.said);
        let signature = hmac(&self.verifier.stored_key, said.as_bytes());
        let client_key = xor(proof, signature);
        // What is compared is a hash, so that the time it takes tells nothing of the password.
        let is_proved = Sha256::digest(client_key)[..] == self.verifier.stored_key;
        if !is_proved || !self.is_known {
            return Err(ScramError::Denied);
        }
        let signature = hmac(&self.verifier.server_key, said.as_bytes());
        Ok((self.username, format!("v={}", Base64::encode_string(&signature)).into_bytes()))
    }
}

impl ClientExchange {
    /// Begins; `random` is what nobody can foresee. The second value is the client's first message.
    pub fn begin(username: &str, password: &[u8], random: [u8; 18]) -> (Self, Vec<u8>) {
        Self::begin_with(username, password, &Base64::encode_string(&random))
    }

    fn begin_with(username: &str, password: &[u8], nonce: &str) -> (Self, Vec<u8>) {
        let first = format!("n={},r={nonce}", escape(username));
        let message = format!("{NO_CHANNEL_BINDING}{first}").into_bytes();
        let exchange =
            Self { password: password.to_vec(), nonce: nonce.to_owned(), first, server_signature: None };
        (exchange, message)
    }

    /// Takes the server's challenge; returns the client's proof. Goes through all iterations.
    ///
    /// # Errors
    /// When the challenge is none, or one that is not to be met.
    pub fn prove(&mut self, server_first: &[u8]) -> Result<Vec<u8>, ScramError> {
        let challenge = str::from_utf8(server_first).map_err(|_| ScramError::Malformed)?;
        let mut attributes = challenge.split(',');
        let mut next = |name: &str| attributes.next().and_then(|part| part.strip_prefix(name));
        let (Some(nonce), Some(salt), Some(iterations)) = (next("r="), next("s="), next("i=")) else {
            return Err(ScramError::Malformed);
        };
        // The server has to have added something of its own.
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(ScramError::Malformed);
        }
        let salt = Base64::decode_vec(salt).map_err(|_| ScramError::Malformed)?;
        let iterations: u32 = iterations.parse().map_err(|_| ScramError::Malformed)?;
        if !(4_096..=MAX_ITERATIONS).contains(&iterations) {
            return Err(ScramError::Iterations);
        }
        let salted = salted_password(&self.password, &salt, iterations);
        let unproved = format!("c={},r={nonce}", Base64::encode_string(NO_CHANNEL_BINDING.as_bytes()));
        let said = format!("{},{challenge},{unproved}", self.first);
        let client_key = hmac(&salted, b"Client Key");
        let signature = hmac(&Sha256::digest(client_key), said.as_bytes());
        let proof = xor(client_key, signature);
        self.server_signature = Some(hmac(&hmac(&salted, b"Server Key"), said.as_bytes()));
        Ok(format!("{unproved},p={}", Base64::encode_string(&proof)).into_bytes())
    }

    /// Takes the server's proof.
    ///
    /// # Errors
    /// When it proves nothing: whoever answers is not the server.
    pub fn finish(self, server_final: &[u8]) -> Result<(), ScramError> {
        let proof = str::from_utf8(server_final)
            .ok()
            .and_then(|text| Base64::decode_vec(text.strip_prefix("v=")?).ok());
        match (proof, self.server_signature) {
            (Some(proof), Some(signature)) if proof == signature => Ok(()),
            _ => Err(ScramError::Impostor),
        }
    }
}

/// Keys stay out of logs.
macro_rules! secret {
    ($($name:ident)*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )*};
}

secret!(Verifier Verifiers ServerExchange ClientExchange);

fn hmac(key: &[u8], message: &[u8]) -> Key {
    // HMAC takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { unreachable!() };
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// `Hi` of RFC 5802 §2.2: PBKDF2 with one block.
fn salted_password(password: &[u8], salt: &[u8], iterations: u32) -> Key {
    let mut block = hmac(password, &[salt, &[0, 0, 0, 1]].concat());
    let mut sum = block;
    for _ in 1..iterations {
        block = hmac(password, &block);
        sum = xor(sum, block);
    }
    sum
}

fn xor(a: Key, b: Key) -> Key {
    std::array::from_fn(|index| a[index] ^ b[index])
}

/// RFC 5802 §5.1: `=2C` is a comma, `=3D` an equals sign.
fn escape(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

fn unescape(name: &str) -> Option<String> {
    let rest = name.replace("=2C", "").replace("=3D", "");
    (!name.is_empty() && !rest.contains('=')).then(|| name.replace("=2C", ",").replace("=3D", "="))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677 §3: user `user`, password `pencil`.
    const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn verifiers(name: &str) -> Verifiers {
        let salt = Base64::decode_vec("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = Verifier::new(b"pencil", &salt, 4_096);
        Verifiers::new(BTreeMap::from([(name.to_owned(), verifier)]), [7; 32])
    }

    #[test]
    fn rfc_7677_3_server() {
        let (exchange, challenge) =
            verifiers("user").begin_with(CLIENT_FIRST.as_bytes(), SERVER_NONCE).unwrap();
        assert_eq!(challenge, SERVER_FIRST.as_bytes());
        let finished = exchange.finish(CLIENT_FINAL.as_bytes()).unwrap();
        assert_eq!(finished, ("user".to_owned(), SERVER_FINAL.as_bytes().to_vec()));
    }

    #[test]
    fn rfc_7677_3_client() {
        let (mut exchange, first) = ClientExchange::begin_with("user", b"pencil", CLIENT_NONCE);
        assert_eq!(first, CLIENT_FIRST.as_bytes());
        assert_eq!(exchange.prove(SERVER_FIRST.as_bytes()).unwrap(), CLIENT_FINAL.as_bytes());
        exchange.clone().finish(SERVER_FINAL.as_bytes()).unwrap();
        let other = SERVER_FINAL.replace("v=6", "v=7");
        assert_eq!(exchange.finish(other.as_bytes()), Err(ScramError::Impostor));
    }

    fn run(name: &str, password: &str, server: &Verifiers) -> Result<String, ScramError> {
        let (mut client, first) = ClientExchange::begin(name, password.as_bytes(), [3; 18]);
        let (exchange, challenge) = server.begin(&first, 1)?;
        let (who, proof) = exchange.finish(&client.prove(&challenge)?)?;
        client.finish(&proof).map(|()| who)
    }

    #[test]
    fn the_password_lets_its_user_in_and_nobody_else() {
        let name = "a,b=c";
        let server = verifiers(name);
        assert_eq!(run(name, "pencil", &server), Ok(name.to_owned()));
        assert_eq!(run(name, "Pencil", &server), Err(ScramError::Denied));
        assert_eq!(run("eve", "pencil", &server), Err(ScramError::Denied));
    }

    #[test]
    fn a_name_that_is_not_known_gets_a_challenge_like_others_and_always_the_same_salt() {
        let server = verifiers("user");
        let salt = |unique| {
            let challenge = server.begin(b"n,,n=eve,r=x", unique).unwrap().1;
            String::from_utf8(challenge).unwrap().split_once(",s=").unwrap().1.to_owned()
        };
        assert_eq!(salt(1), salt(2));
        assert!(salt(1).ends_with(",i=4096"));
        assert_ne!(server.begin(b"n,,n=eve,r=x", 1).unwrap().1, server.begin(b"n,,n=eve,r=x", 2).unwrap().1);
    }

    #[test]
    fn what_is_malformed_is_an_error() {
        let server = verifiers("user");
        for first in [
            "",
            "n,,",
            "y,,n=user,r=x",
            "p=tls-unique,,n=user,r=x",
            "n,a=b,n=user,r=x",
            "n,,n=,r=x",
            "n,,n=user,r=",
            "n,,n=u=ser,r=x",
            "n,,n=user,r=x,m=y",
        ] {
            assert_eq!(server.begin(first.as_bytes(), 1).unwrap_err(), ScramError::Malformed, "{first}");
        }
        for last in ["", "c=biws,r=x,p=", "c=biws,r=other,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="] {
            let (exchange, _) = server.begin(b"n,,n=user,r=x", 1).unwrap();
            assert_eq!(exchange.finish(last.as_bytes()), Err(ScramError::Malformed), "{last}");
        }
        let (client, _) = ClientExchange::begin_with("user", b"pencil", "x");
        for (challenge, error) in [
            ("r=y1,s=eA==,i=4096", ScramError::Malformed),
            ("r=x,s=eA==,i=4096", ScramError::Malformed),
            ("r=x1,s=?,i=4096", ScramError::Malformed),
            ("r=x1,s=eA==,i=1", ScramError::Iterations),
            ("r=x1,s=eA==,i=100000000", ScramError::Iterations),
        ] {
            assert_eq!(client.clone().prove(challenge.as_bytes()), Err(error), "{challenge}");
        }
        assert_eq!(client.finish(b"v="), Err(ScramError::Impostor));
    }

    #[test]
    fn a_verifier_is_read_as_it_was_written() {
        let verifier = Verifier::new(b"pencil", b"0123456789abcdef", 4_096);
        assert_eq!(Verifier::parse(&verifier.to_text()), Some(verifier));
        for text in ["", "SCRAM-SHA-256$", "SCRAM-SHA-256$1:eA==$eA==:eA==", "SCRAM-SHA-1$1:eA==$eA==:eA=="] {
            assert_eq!(Verifier::parse(text), None, "{text}");
        }
    }
}
