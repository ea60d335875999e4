//! The password file: `user name:hash`, one line each, the hash in the PHC string format; beside it a user may have a
//! line of its own for SCRAM.

use std::collections::BTreeMap;
use std::fmt;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};

use crate::scram::{self, Verifier, Verifiers};

/// The users of a password file.
///
/// A line is `name:$argon2id$v=19$m=…,t=…,p=…$salt$hash`, or `name:SCRAM-SHA-256$…` as [`scram`] has it; empty lines and those that begin with `#` say nothing.
#[derive(Clone, Default)]
pub struct Users {
    hashes: BTreeMap<String, String>,
    scram: BTreeMap<String, Verifier>,
    /// What the password of somebody unknown is compared with, so that it takes as long as for somebody known.
    decoy: Option<String>,
}

/// What is wrong with a password file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsersError {
    /// A line has no name, or nothing behind it.
    #[error("line {line}: an entry is name:hash; make one with `trellis passwd`")]
    Form {
        /// The line's number, from 1.
        line: usize,
    },
    /// A line's hash is none that this program can check. The hash itself is not shown.
    #[error(
        "line {line}: the hash of {name:?} is no Argon2id hash in PHC form; make it anew with `trellis passwd`"
    )]
    Hash {
        /// The line's number, from 1.
        line: usize,
        /// Whose hash it is.
        name: String,
    },
    /// A name has two lines.
    #[error("line {line}: {name:?} has an entry already")]
    Twice {
        /// The line's number, from 1.
        line: usize,
        /// Whose second entry it is.
        name: String,
    },
}

/// Why an entry cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The name cannot stand in the file.
    #[error("a user name is not empty, holds no colon and no line break, and does not begin with #")]
    Name,
    /// The password is empty.
    #[error("an empty password protects nothing")]
    Empty,
    /// The password cannot be hashed.
    #[error("the password cannot be hashed: {0}")]
    Hash(String),
}

impl Users {
    /// Reads the text of a password file.
    ///
    /// # Errors
    /// What is wrong with which line.
    pub fn parse(text: &str) -> Result<Self, UsersError> {
        let (mut hashes, mut scram) = (BTreeMap::new(), BTreeMap::new());
        for (index, entry) in text.lines().enumerate() {
            let line = index + 1;
            if entry.trim().is_empty() || entry.starts_with('#') {
                continue;
            }
            let (name, hash) = entry.split_once(':').ok_or(UsersError::Form { line })?;
            let hash = hash.trim_end();
            if name.is_empty() || hash.is_empty() {
                return Err(UsersError::Form { line });
            }
            if let Some(verifier) = Verifier::parse(hash) {
                if scram.insert(name.to_owned(), verifier).is_some() {
                    return Err(UsersError::Twice { line, name: name.to_owned() });
                }
                continue;
            }
            let is_known = PasswordHash::new(hash).is_ok_and(|hash| {
                hash.algorithm.as_str() == "argon2id" && hash.hash.is_some() && hash.salt.is_some()
            });
            if !is_known {
                return Err(UsersError::Hash { line, name: name.to_owned() });
            }
            if hashes.insert(name.to_owned(), hash.to_owned()).is_some() {
                return Err(UsersError::Twice { line, name: name.to_owned() });
            }
        }
        let decoy = hashes.values().next().cloned();
        Ok(Self { hashes, scram, decoy })
    }

    /// Those that can prove their password without sending it; `secret` is what nobody can foresee.
    pub fn verifiers(&self, secret: [u8; 32]) -> Verifiers {
        Verifiers::new(self.scram.clone(), secret)
    }

    /// Whether the password is the user's. Takes tens of milliseconds and of megabytes, so it has no place on a
    /// thread that serves connections; for a user that does not exist as long as for one that does.
    pub fn verify(&self, name: &str, password: &[u8]) -> bool {
        let known = self.hashes.get(name);
        let matches = known
            .or(self.decoy.as_ref())
            .and_then(|hash| PasswordHash::new(hash).ok())
            .is_some_and(|hash| Argon2::default().verify_password(password, &hash).is_ok());
        matches && known.is_some()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }
}

/// Hashes stay out of logs.
impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// An entry of the password file, with its line break. `salt` is 16 bytes or more that nobody can foresee. Costs
/// 19 MiB and two passes, as OWASP recommends.
///
/// # Errors
/// When the name cannot stand in the file, or the password cannot be hashed.
pub fn entry(name: &str, password: &[u8], salt: &[u8]) -> Result<String, EntryError> {
    check(name, password)?;
    let hash = Argon2::default().hash_password_with_salt(password, salt);
    let hash: argon2::password_hash::phc::PasswordHash =
        hash.map_err(|error| EntryError::Hash(error.to_string()))?;
    Ok(format!("{name}:{hash}\n"))
}

/// The same for a user that is to prove the password without sending it.
///
/// # Errors
/// As [`entry`].
pub fn scram_entry(name: &str, password: &[u8], salt: &[u8]) -> Result<String, EntryError> {
    check(name, password)?;
    Ok(format!("{name}:{}\n", Verifier::new(password, salt, scram::ITERATIONS).to_text()))
}

fn check(name: &str, password: &[u8]) -> Result<(), EntryError> {
    if name.is_empty() || name.starts_with('#') || name.contains([':', '\n', '\r']) {
        return Err(EntryError::Name);
    }
    if password.is_empty() { Err(EntryError::Empty) } else { Ok(()) }
}

/// The text of a password file without the entries of a user; `None` if there is none.
pub fn without(text: &str, name: &str) -> Option<String> {
    let is_theirs = |line: &&str| line.split_once(':').is_some_and(|(entry, _)| entry == name);
    text.lines().any(|line| is_theirs(&line)).then(|| {
        text.lines().filter(|line| !is_theirs(line)).fold(String::new(), |rest, line| rest + line + "\n")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the reference implementation's README (P-H-C/phc-winner-argon2), for Argon2id.
    const REFERENCE: &str =
        "ref:$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

    #[test]
    fn a_hash_of_the_reference_implementation_is_understood() {
        let users = Users::parse(REFERENCE).unwrap();
        assert!(users.verify("ref", b"password"));
        assert!(!users.verify("ref", b"Password"));
    }

    #[test]
    fn an_entry_lets_its_user_in_and_nobody_else() {
        let text = entry("ann", b"secret", b"0123456789abcdef").unwrap()
            + "\n# a remark\n"
            + &entry("bob", b"other", b"fedcba9876543210").unwrap();
        assert!(text.starts_with("ann:$argon2id$v=19$m=19456,t=2,p=1$"), "{text}");
        let users = Users::parse(&text).unwrap();
        assert_eq!(users.len(), 2);
        assert!(users.verify("ann", b"secret") && users.verify("bob", b"other"));
        for (name, password) in
            [("ann", "other"), ("bob", "secret"), ("eve", "secret"), ("ann", ""), ("", "")]
        {
            assert!(!users.verify(name, password.as_bytes()), "{name} {password}");
        }
        assert!(!format!("{users:?}").contains("argon2"), "hashes are not shown");
    }

    #[test]
    fn a_user_may_have_an_entry_of_each_kind_and_both_are_taken_out() {
        let salt = b"0123456789abcdef";
        let scram = scram_entry("ann", b"secret", salt).unwrap();
        let text = entry("ann", b"secret", salt).unwrap() + &scram;
        let users = Users::parse(&text).unwrap();
        assert!(users.verify("ann", b"secret") && !users.verifiers([0; 32]).is_empty());
        assert_eq!(without(&text, "ann").as_deref(), Some(""));
        let alone = Users::parse(&scram).unwrap();
        assert!(!alone.verify("ann", b"secret"), "a password that is sent needs a hash of its own");
        let twice = Users::parse(&format!("{scram}{scram}")).unwrap_err();
        assert_eq!(twice, UsersError::Twice { line: 2, name: "ann".to_owned() });
        assert_eq!(scram_entry("a:b", b"x", salt), Err(EntryError::Name));
    }

    #[test]
    fn nobody_is_let_in_by_an_empty_file() {
        assert!(!Users::parse("").unwrap().verify("ann", b""));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_without_showing_a_hash() {
        assert_eq!(Users::parse("\nann").unwrap_err(), UsersError::Form { line: 2 });
        assert_eq!(Users::parse(":x").unwrap_err(), UsersError::Form { line: 1 });
        for hash in ["secret", "$2b$10$abcdefghijklmnopqrstuv", "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ"]
        {
            let error = Users::parse(&format!("ann:{hash}")).unwrap_err();
            assert_eq!(error, UsersError::Hash { line: 1, name: "ann".to_owned() });
            assert!(!error.to_string().contains(hash));
        }
        let twice = Users::parse(&format!("{REFERENCE}\n{REFERENCE}")).unwrap_err();
        assert_eq!(twice, UsersError::Twice { line: 2, name: "ref".to_owned() });
    }

    #[test]
    fn names_and_passwords_that_cannot_be_are_refused() {
        for name in ["", "a:b", "#a", "a\nb"] {
            assert_eq!(entry(name, b"x", b"0123456789abcdef"), Err(EntryError::Name), "{name:?}");
        }
        assert_eq!(entry("a", b"", b"0123456789abcdef"), Err(EntryError::Empty));
        assert!(matches!(entry("a", b"x", b"1"), Err(EntryError::Hash(_))), "a salt of one byte");
    }

    #[test]
    fn an_entry_is_taken_out_and_the_rest_stays() {
        assert_eq!(without("# users\na:1\nb:2\n", "a").as_deref(), Some("# users\nb:2\n"));
        assert_eq!(without("aa:1\n", "a"), None);
    }
}
