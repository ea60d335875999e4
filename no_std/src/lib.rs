//! A lamp as firmware would have it: the mesh stack, the program's own allocator and panic handler, and nothing else.
//! `cargo xtask no-std` builds it for a Cortex-M4F, which has no standard library.
#![no_std]

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::panic::PanicInfo;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;

use clock::Instant;
use mesh_crypto::{DevKey, NetKey};
use mesh_models::generic::OnOffServer;
use mesh_proto::access::Element;
use mesh_proto::bearer::Received;
use mesh_proto::foundation::Product;
use mesh_proto::network::Relay;
use mesh_proto::node::{Node, NodeConfig, NodeOptions, Provisioned};
use mesh_wire::address::UnicastAddress;
use mesh_wire::bearer::AdType;
use mesh_wire::{CompanyId, IvIndex, KeyIndex, Transmit, Ttl};

/// Memory that is given out and never taken back: enough for a proof, not for a lamp.
struct Bump {
    arena: UnsafeCell<[u8; ARENA]>,
    used: AtomicUsize,
}

const ARENA: usize = 64 * 1024;

// SAFETY: each part of the arena is given out once, by the atomic counter.
unsafe impl Sync for Bump {}

unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let room = layout.size() + layout.align();
        let start = self.used.fetch_add(room, Ordering::Relaxed);
        if start + room > ARENA {
            return ptr::null_mut();
        }
        let at = self.arena.get().cast::<u8>().wrapping_add(start);
        at.wrapping_add(at.align_offset(layout.align()))
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static MEMORY: Bump = Bump { arena: UnsafeCell::new([0; ARENA]), used: AtomicUsize::new(0) };

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}

/// Makes a lamp at 0x0002.
#[unsafe(no_mangle)]
pub extern "C" fn lamp_new() -> *mut Node {
    let transmit = Transmit::from_octet(0);
    let Some((address, default_ttl)) = UnicastAddress::new(2).zip(Ttl::new(5)) else {
        return ptr::null_mut();
    };
    let provisioned = Provisioned {
        net_key: NetKey::new([1; 16]),
        net_key_index: KeyIndex::ZERO,
        iv_index: IvIndex(0),
        address,
        dev_key: DevKey::new([2; 16]),
    };
    let config = NodeConfig {
        product: Product { company: CompanyId(0xffff), product: 1, version: 1 },
        elements: vec![Element::new(0).with_server(OnOffServer::new(false))],
        network_transmit: transmit,
        relay: Relay { enabled: true, retransmit: transmit },
        default_ttl,
        seed: [0; 32],
        options: NodeOptions::default(),
    };
    Box::into_raw(Box::new(Node::new(provisioned, config)))
}

/// Hands the lamp a network PDU at so many milliseconds. Returns whether it is on.
///
/// # Safety
/// `lamp` is from [`lamp_new`], and used by nobody else; `data` has `length` octets.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lamp_receive(lamp: *mut Node, now_ms: u64, data: *const u8, length: usize) -> bool {
    // SAFETY: the caller's.
    let (lamp, data) = unsafe { (&mut *lamp, core::slice::from_raw_parts(data, length)) };
    let now = Instant::ORIGIN + Duration::from_millis(now_ms);
    lamp.handle_pdu(now, &Received { ad_type: AdType::MeshMessage, data, rssi: -60 });
    lamp.handle_timeout(now);
    while lamp.poll_transmit().is_some() {}
    lamp.server::<OnOffServer>(0).is_some_and(|server| server.is_on(now))
}
