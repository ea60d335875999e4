use clock::Instant;

/// A capture of the medium in the pcap format, link type 251 (Bluetooth LE link layer), with one record for each
/// advertising event: the PDU on channel 37. Those on 38 and 39 are the same.
///
/// A record is `access address · ADV_NONCONN_IND header · AdvA · AD structures · CRC`, as Wireshark reads it.
#[derive(Debug)]
pub struct Pcap {
    epoch_micros: u64,
    pending: Vec<u8>,
}

/// Link type "Bluetooth LE link layer".
const LINK_TYPE: u32 = 251;

/// The access address of all advertisements.
const ACCESS_ADDRESS: u32 = 0x8e89_bed6;

impl Pcap {
    /// A capture whose time line begins `epoch_micros` microseconds after 1970.
    pub fn new(epoch_micros: u64) -> Self {
        let mut pending = Vec::new();
        pending.extend(0xa1b2_c3d4_u32.to_le_bytes());
        for version in [2_u16, 4] {
            pending.extend(version.to_le_bytes());
        }
        for field in [0, 0, 65_535, LINK_TYPE] {
            pending.extend(field.to_le_bytes());
        }
        Self { epoch_micros, pending }
    }

    /// Takes what has been written since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.pending)
    }

    /// Records an advertisement.
    pub fn record(&mut self, at: Instant, advertiser: [u8; 6], ad_structure: &[u8]) {
        let frame = frame(advertiser, ad_structure);
        let micros = self.epoch_micros + at.as_micros();
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        for field in [micros / 1_000_000, micros % 1_000_000] {
            self.pending.extend(u32::try_from(field).unwrap_or(u32::MAX).to_le_bytes());
        }
        for field in [length, length] {
            self.pending.extend(field.to_le_bytes());
        }
        self.pending.extend(frame);
    }
}

fn frame(advertiser: [u8; 6], ad_structure: &[u8]) -> Vec<u8> {
    // ADV_NONCONN_IND, with TxAdd: the advertiser's address is a random one.
    let length = u8::try_from(advertiser.len() + ad_structure.len()).unwrap_or(u8::MAX);
    let mut pdu = vec![0x42, length];
    pdu.extend(advertiser.iter().rev());
    pdu.extend_from_slice(ad_structure);
    let crc = crc24(&pdu).to_le_bytes();
    let mut frame = ACCESS_ADDRESS.to_le_bytes().to_vec();
    frame.extend(pdu);
    frame.extend(&crc[..3]);
    frame
}

/// The link layer's CRC (Core specification, Vol 6, Part B, §3.1.1), with its bits in the order of the air.
fn crc24(octets: &[u8]) -> u32 {
    let mut crc: u32 = 0x00aa_aaaa;
    for octet in octets {
        for bit in 0..8 {
            let feedback = (u32::from(*octet) >> bit ^ crc) & 1;
            crc = crc >> 1 ^ if feedback == 1 { 0x00da_6000 } else { 0 };
        }
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From testdata/peers/btmesh_pcap.py, which Wireshark reads: its first sample message.
    #[test]
    fn a_record_is_what_the_independent_writer_writes() {
        let data = hex::decode("68eca487516765b5e5bfdacbaf6cb7fb6bff871f035444ce83a670df").unwrap();
        let ad = [&[29, 0x2a][..], &data].concat();
        let written = frame([0xc0, 1, 1, 1, 1, 1], &ad);
        assert_eq!(hex::encode(&written[..12]), "d6be898e42240101010101c0");
        assert_eq!(written.len(), 4 + 2 + 6 + 30 + 3);
        assert_eq!(hex::encode(&written[42..]), PYTHON_CRC);
    }

    const PYTHON_CRC: &str = "e78741";
}
