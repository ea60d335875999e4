use std::io;
use std::path::{Path, PathBuf};

use mesh_wire::bearer::AdType;
use mesh_wire::network::Octets;

/// Octets of the longest datagram: an advertisement with the length octet of its AD structure.
const MAX_DATAGRAM: usize = 31;

/// An advertisement that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// What it carries.
    pub ad_type: AdType,
    /// What follows the AD type.
    pub data: Octets,
}

/// The other end of a `bluetooth-meshd --io unit:PATH`: a datagram is an advertisement, `length:8 · AD type:8 · data`
/// to PATH, and without the length from it, to `PATH.peer`, where this end listens.
#[derive(Debug)]
pub struct UnixDatagram {
    socket: tokio::net::UnixDatagram,
    /// The same socket, to send without waiting: whether it is writable is the kernel's to say.
    sender: std::os::unix::net::UnixDatagram,
    peer: PathBuf,
    own: PathBuf,
    end: End,
}

/// Which end of the socket this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// That of `bluetooth-meshd`: it hears datagrams with a length, and sends them without.
    Meshd,
    /// That of who talks to it.
    Peer,
}

impl UnixDatagram {
    /// Listens at `PATH.peer`. A socket that an earlier run left there is replaced.
    ///
    /// # Errors
    /// When the socket cannot be made there.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let mut own = path.as_os_str().to_owned();
        own.push(".peer");
        Self::bind_at(PathBuf::from(own), path.to_owned(), End::Peer)
    }

    /// Takes the place of meshd: listens at `PATH`, for one peer that was bound with [`UnixDatagram::bind`].
    ///
    /// # Errors
    /// When the socket cannot be made there.
    pub fn bind_as_meshd(path: &Path) -> io::Result<Self> {
        let mut peer = path.as_os_str().to_owned();
        peer.push(".peer");
        Self::bind_at(path.to_owned(), PathBuf::from(peer), End::Meshd)
    }

    fn bind_at(own: PathBuf, peer: PathBuf, end: End) -> io::Result<Self> {
        match std::fs::remove_file(&own) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let sender = std::os::unix::net::UnixDatagram::bind(&own)?;
        sender.set_nonblocking(true)?;
        let socket = tokio::net::UnixDatagram::from_std(sender.try_clone()?)?;
        Ok(Self { socket, sender, peer, own, end })
    }

    /// Sends an advertisement. When nobody listens, or not fast enough, it is lost, as on the air.
    ///
    /// # Errors
    /// When the socket itself fails.
    pub fn send(&self, ad_type: AdType, data: &[u8]) -> io::Result<()> {
        let length = u8::try_from(data.len() + 1).map_err(|_| io::ErrorKind::InvalidInput)?;
        let header: &[u8] = match self.end {
            End::Peer => &[length, ad_type.into()],
            End::Meshd => &[ad_type.into()],
        };
        let datagram = [header, data].concat();
        match self.sender.send_to(&datagram, &self.peer) {
            Ok(_) => Ok(()),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    Ok(())
                }
                _ => Err(error),
            },
        }
    }

    /// The next advertisement. Those of types that mesh does not use are left out. Nothing is lost when the future is
    /// dropped.
    ///
    /// # Errors
    /// When the socket itself fails.
    pub async fn recv(&self) -> io::Result<Advertisement> {
        loop {
            let mut datagram = [0; MAX_DATAGRAM + 1];
            let length = self.socket.recv(&mut datagram).await?;
            let octets = match self.end {
                End::Peer => &datagram[..length],
                // What the length says counts, as on the air.
                End::Meshd => match datagram[..length].split_first() {
                    Some((&said, octets)) if octets.len() >= usize::from(said) => &octets[..said.into()],
                    _ => continue,
                },
            };
            let Some((&first, data)) = octets.split_first() else { continue };
            let types = [AdType::PbAdv, AdType::MeshMessage, AdType::MeshBeacon];
            if let Some(&ad_type) = types.iter().find(|&&known| u8::from(known) == first) {
                return Ok(Advertisement { ad_type, data: data.into() });
            }
        }
    }
}

impl Drop for UnixDatagram {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = std::fs::remove_file(&self.own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_datagram_is_an_advertisement() {
        let folder = std::env::temp_dir().join(format!("mesh-io-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("air");
        let bearer = UnixDatagram::bind(&path).unwrap();
        bearer.send(AdType::MeshMessage, &[1, 2]).unwrap();
        let meshd = tokio::net::UnixDatagram::bind(&path).unwrap();
        bearer.send(AdType::MeshMessage, &[3, 4]).unwrap();
        let mut datagram = [0; 40];
        let length = meshd.recv(&mut datagram).await.unwrap();
        assert_eq!(datagram[..length], [3, 0x2a, 3, 4]);
        for datagram in [&[][..], &[0x09, 1], &[0x2b, 5, 6]] {
            meshd.send_to(datagram, folder.join("air.peer")).await.unwrap();
        }
        let received = bearer.recv().await.unwrap();
        assert_eq!(received, Advertisement { ad_type: AdType::MeshBeacon, data: [5, 6][..].into() });
        drop((bearer, meshd));

        std::fs::remove_file(&path).unwrap();
        let ends = [UnixDatagram::bind(&path).unwrap(), UnixDatagram::bind_as_meshd(&path).unwrap()];
        ends[0].send(AdType::PbAdv, &[7, 8]).unwrap();
        ends[1].send(AdType::MeshBeacon, &[9]).unwrap();
        let received = [ends[1].recv().await.unwrap(), ends[0].recv().await.unwrap()];
        assert_eq!(received[0], Advertisement { ad_type: AdType::PbAdv, data: [7, 8][..].into() });
        assert_eq!(received[1], Advertisement { ad_type: AdType::MeshBeacon, data: [9][..].into() });
        drop(ends);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
