//! `mesh-tests-delay NAME NAME MILLISECONDS`: a line between two network interfaces that takes time.
//!
//! Makes two TAP devices and carries Ethernet frames from each to the other, each frame after the
//! same time, in order. The kernel can do this (netem), but not every kernel is built with it. Says
//! `ready` when both devices are there; ends, and the devices with it, when its standard input does.
#![allow(clippy::expect_used)] // a line that cannot be laid is of no use

mod tap;

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Frames on their way in one direction: 50 ms at a gigabit, in frames of 1,500 bytes. Beyond it they are
/// lost, as on any line.
const FRAMES_ON_THE_WAY: usize = 4096;

/// The largest frame of an interface with an MTU of 1,500, with a tag.
const FRAME_BYTES: usize = 1522;

struct Frame {
    bytes: Vec<u8>,
    due: Instant,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [one, two, milliseconds] = arguments.as_slice() else {
        eprintln!("usage: mesh-tests-delay NAME NAME MILLISECONDS");
        std::process::exit(64);
    };
    let delay = Duration::from_millis(milliseconds.parse().expect("milliseconds are a number"));
    let open = |name: &str| tap::open(name).unwrap_or_else(|error| cannot(name, &error));
    let (one, two) = (open(one), open(two));
    carry(clone(&one), clone(&two), delay);
    carry(two, one, delay);
    println!("ready");
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
}

fn cannot(name: &str, error: &io::Error) -> ! {
    eprintln!("mesh-tests-delay: no device {name}: {error}");
    std::process::exit(69);
}

fn clone(device: &File) -> File {
    device.try_clone().expect("a descriptor can be had twice")
}

/// One direction, for as long as the process lives.
fn carry(from: File, to: File, delay: Duration) {
    let (enter, leave) = sync_channel(FRAMES_ON_THE_WAY);
    std::thread::spawn(move || take(from, &enter, delay));
    std::thread::spawn(move || give(to, &leave));
}

fn take(mut from: File, enter: &SyncSender<Frame>, delay: Duration) {
    let mut buffer = [0; FRAME_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(length) => {
                let frame = Frame { bytes: buffer[..length].to_vec(), due: Instant::now() + delay };
                // A full line loses what comes.
                let _ = enter.try_send(frame);
            }
            // The device is there and not up yet, or not any more.
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn give(mut to: File, leave: &Receiver<Frame>) {
    for frame in leave {
        std::thread::sleep(frame.due.saturating_duration_since(Instant::now()));
        // A device that is down loses it.
        let _ = to.write(&frame.bytes);
    }
}
