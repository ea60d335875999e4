//! The SAR Transmitter and SAR Receiver states (MshPRT §4.2.48, §4.2.49): what they change, and that they last.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/net.rs"]
mod net;

use std::time::Duration;

use mesh_proto::lower_transport::{SarReceiver, SarTransmitter};
use mesh_proto::node::{Command, Event};
use mesh_wire::address::Address;
use mesh_wire::bearer::AdType;
use net::{Net, SECOND, unicast};

fn messages(net: &Net, by: usize) -> usize {
    net.sent.iter().filter(|(from, sent)| *from == by && sent.ad_type == AdType::MeshMessage).count()
}

#[test]
fn a_sender_follows_its_transmitter_state_and_remembers_it() {
    let mut net = Net::new(2);
    let transmitter = SarTransmitter {
        unicast_retransmissions: 5,
        unicast_retransmissions_without_progress: 4,
        multicast_retransmissions: 0,
        segment_interval: Duration::from_millis(20),
        ..SarTransmitter::default()
    };
    let receiver = SarReceiver::default();
    net.command(0, Command::Sar { transmitter, receiver });
    net.restart(0);
    assert_eq!(net.nodes[0].sar(), (&transmitter, &receiver));
    // Nobody answers at 0x0077: of 200 octets there are 18 segments, and one without progress is the first.
    net.sent.clear();
    net.hello(0, Address::Unicast(unicast(0x77)), 200);
    net.run(20 * SECOND);
    assert_eq!(messages(&net, 0), 18 * (1 + 4));
    assert!(net.events.iter().any(|(_, event)| matches!(event, Event::Sent { result: Err(_), .. })));
    // A group gets each segment once.
    net.sent.clear();
    net.hello(0, Address::from(0xc000), 200);
    assert_eq!(messages(&net, 0), 18);
}

#[test]
fn a_receiver_repeats_the_acknowledgments_of_long_messages_if_it_is_to() {
    for (octets, repeated) in [(200, 3), (20, 1)] {
        let mut net = Net::new(2);
        let receiver = SarReceiver { acknowledgment_retransmissions: 2, ..SarReceiver::default() };
        net.command(1, Command::Sar { transmitter: SarTransmitter::default(), receiver });
        let to = Address::Unicast(unicast(2));
        assert_eq!(net.hello(0, to, octets), [1]);
        assert_eq!(messages(&net, 1), repeated, "acknowledgments of {octets} octets");
    }
}

#[test]
fn states_as_different_as_can_be_still_deliver() {
    // A hasty sender and a slow receiver, and the other way round: as with nodes of Mesh Protocol 1.0 (checklist).
    for (transmitter, receiver) in [([0x00, 0x00, 0x00, 0x00], [0xff, 0xff, 0x03]), ([0xff; 4], [0x00; 3])] {
        let mut net = Net::new(2);
        let transmitter = SarTransmitter {
            unicast_retransmissions: 15,
            unicast_retransmissions_without_progress: 15,
            ..SarTransmitter::from_octets(transmitter)
        };
        net.command(0, Command::Sar { transmitter, receiver: SarReceiver::default() });
        let receiver = SarReceiver::from_octets(receiver);
        net.command(1, Command::Sar { transmitter: SarTransmitter::default(), receiver });
        let heard = net.hello(0, Address::Unicast(unicast(2)), 370);
        net.run(10 * SECOND);
        let done = net.events.iter().any(|(_, event)| matches!(event, Event::Sent { result: Ok(()), .. }));
        assert!(done && (heard == [1] || net.events.iter().any(|(_, x)| matches!(x, Event::Message(_)))));
    }
}
