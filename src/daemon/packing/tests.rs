use super::{Line, SMALLEST, Took, Transfer, Tried};
use std::time::Duration;

const MIB: usize = 1024 * 1024;
/// What lies between the sender and the line without it having to wait, in bytes.
const BUFFER: usize = 512 * 1024;
/// What is written between two looks at the time, in bytes.
const SLICE: usize = 128 * 1024;
/// What goes into a buffer that has room, in bytes a second.
const COPIES: f64 = 1e9;

/// A machine, a line and data, in bytes a second.
#[derive(Clone, Copy)]
struct World {
    line: f64,
    /// Reading and comparing.
    makes: f64,
    packs: f64,
    /// What data packs to, in hundredths.
    ratio: usize,
    /// So many seconds after its last turn a thread gets none for so many seconds.
    starved: Option<(f64, f64)>,
}

/// A laptop with 20 Mbit/s.
const USUAL: World = World {
    line: 2.5e6,
    makes: 800e6,
    packs: 250e6,
    ratio: 20,
    starved: None,
};

const NOISE: World = World {
    ratio: 100,
    ..USUAL
};

const FAST: World = World {
    line: 500e6,
    ..USUAL
};

/// What a run came to.
#[derive(Default)]
struct Sent {
    /// Bytes that went as they are.
    plain: usize,
    /// Bytes that went packed, before packing.
    packed: usize,
    /// Pieces that were tried in vain.
    in_vain: usize,
    seconds: f64,
}

/// One who makes pieces, and one who writes them, two pieces behind at most, to a line that takes what its buffer has no room
/// for at its own speed.
struct Sender {
    line: Line,
    transfer: Transfer,
    made: f64,
    /// When the last pieces were written.
    written: [f64; 3],
    /// When the line will have carried what it was given.
    free: f64,
    /// When a thread got a turn again.
    turn: f64,
}

impl Default for Sender {
    fn default() -> Self {
        let mut line = Line::default();
        line.enable();
        Self {
            line,
            transfer: Transfer::default(),
            made: 0.0,
            written: [0.0; 3],
            free: 0.0,
            turn: 0.0,
        }
    }
}

impl Sender {
    fn send(&mut self, world: World, content: usize) -> Sent {
        let mut sent = Sent::default();
        let begun = self.written[2];
        let mut left = content;
        while left > 0 {
            let length = self.transfer.piece(&self.line).min(left);
            left -= length;
            self.made = self.made.max(self.written[0]) + length as f64 / world.makes;
            let tries = self.transfer.packs(&self.line, length);
            // Who packs gets no more turns than who writes.
            let share = world
                .starved
                .map_or(1.0, |(turn, stall)| turn / (turn + stall));
            let packing = if tries {
                length as f64 / world.packs / share
            } else {
                0.0
            };
            self.made += packing;
            let (tried, bytes) = if !tries {
                sent.plain += length;
                (Tried::Not, length)
            } else if world.ratio > 94 {
                sent.plain += length;
                sent.in_vain += 1;
                (Tried::InVain, length)
            } else {
                sent.packed += length;
                let bytes = length * world.ratio / 100;
                (Tried::Packed(bytes), bytes)
            };
            let packing = Duration::from_secs_f64(packing);
            self.transfer
                .sent(&mut self.line, &Took { length, packing }, tried);
            self.write(world, bytes);
        }
        sent.seconds = self.written[2] - begun;
        sent
    }

    fn write(&mut self, world: World, mut bytes: usize) {
        let last = self.written[2];
        let mut now = last.max(self.made);
        let mut resting = now - last;
        while bytes > 0 {
            let slice = bytes.min(SLICE);
            bytes -= slice;
            let from = now;
            if let Some((turn, stall)) = world.starved
                && now >= self.turn + turn
            {
                self.turn = now + stall;
                self.free = self.free.max(now) + stall;
            }
            self.free = self.free.max(now) + slice as f64 / world.line;
            now = (now + slice as f64 / COPIES).max(self.free - BUFFER as f64 / world.line);
            if world.starved.is_some() {
                // What is starved does not run ahead of who empties the buffer.
                now = now.max(self.free);
            }
            let (writing, rested) = (now - from, std::mem::take(&mut resting));
            self.line.wrote(
                slice,
                Duration::from_secs_f64(writing),
                Duration::from_secs_f64(rested),
            );
        }
        self.written = [self.written[1], last, now];
    }

    /// Another transfer, long after.
    fn rest(&mut self) {
        let later = self.free.max(self.written[2]) + 5.0;
        self.made = later;
        self.written = [self.written[2]; 3];
        self.transfer = Transfer::default();
    }
}

fn send(world: World, content: usize) -> Sent {
    Sender::default().send(world, content)
}

#[test]
fn a_slow_line_carries_text_packed_soon() {
    for (line, at_most) in [(0.1e6, MIB), (2.5e6, MIB), (12.5e6, 5 * MIB)] {
        let world = World { line, ..USUAL };
        let sent = send(world, 1000 * MIB);
        assert!(sent.plain <= at_most, "{} plain at {line}", sent.plain);
        assert_eq!(sent.plain + sent.packed, 1000 * MIB);
        // Twenty hundredths, and what came before.
        let bound = 0.22 * 1000.0 * MIB as f64 / line;
        assert!(sent.seconds < bound, "{} s at {line}", sent.seconds);
    }
}

#[test]
fn a_fast_line_carries_everything_plain() {
    for line in [100e6, 400e6, 2e9] {
        for packs in [100e6, 250e6, 500e6] {
            for makes in [50e6, 800e6, 3e9] {
                let world = World {
                    line,
                    makes,
                    packs,
                    ..USUAL
                };
                let mut sender = Sender::default();
                assert_eq!(sender.send(world, 999 * MIB).plain, 999 * MIB);
                assert_eq!(sender.transfer.piece(&sender.line), MIB / 4, "long pieces");
            }
        }
    }
}

#[test]
fn a_sender_that_is_slower_than_the_line_packs_nothing() {
    let world = World {
        makes: 2e6,
        ..USUAL
    };
    assert_eq!(send(world, 100 * MIB).packed, 0);
}

#[test]
fn a_fast_line_that_hesitates_is_not_a_slow_one() {
    let mut sender = Sender::default();
    for _ in 0..100 {
        sender.free = sender.written[2] + 0.3;
        assert_eq!(sender.send(FAST, 50 * MIB).packed, 0);
    }
}

/// Threads that get a turn now and then only, because others keep all processors busy.
#[test]
fn a_starved_machine_is_not_taken_for_a_slow_line() {
    for line in [60e6, 120e6, 500e6] {
        for starved in [(0.008, 0.004), (0.02, 0.02), (0.05, 0.06), (0.5, 0.5)] {
            for packs in [40e6, 120e6] {
                let world = World {
                    line,
                    packs,
                    starved: Some(starved),
                    ..USUAL
                };
                // Now and then a piece is tried, to know what packing costs here.
                let packed = send(world, 500 * MIB).packed;
                let most = if line > 100e6 { MIB } else { 50 * MIB };
                assert!(packed <= most, "{packed}: {line} {starved:?} {packs}");
            }
        }
    }
}

#[test]
fn a_gigabit_line_carries_everything_plain_and_a_tenth_of_it_packed() {
    let gigabit = World {
        line: 118e6,
        ..USUAL
    };
    assert_eq!(send(gigabit, 500 * MIB).packed, 0);
    // Also on a machine that packs slowly.
    let tenth = World {
        line: 11.8e6,
        packs: 120e6,
        ..USUAL
    };
    assert!(send(tenth, 500 * MIB).packed > 490 * MIB);
}

#[test]
fn nothing_is_packed_for_a_peer_that_does_not_take_it() {
    let mut sender = Sender {
        line: Line::default(),
        ..Sender::default()
    };
    assert_eq!(sender.send(USUAL, 20 * MIB).packed, 0);
}

#[test]
fn pieces_are_short_in_time_on_a_slow_line() {
    let mut sender = Sender::default();
    sender.send(NOISE, 4 * MIB);
    // 20 ms of 2.5 MB a second, and no longer while it is not known what data packs to.
    assert!((32 * 1024..=50_000).contains(&sender.transfer.piece(&sender.line)));
    sender.rest();
    sender.send(USUAL, 4 * MIB);
    assert!((200_000..=MIB / 4).contains(&sender.transfer.piece(&sender.line)));
    let mut sender = Sender::default();
    sender.send(FAST, 50 * MIB);
    assert_eq!(sender.transfer.piece(&sender.line), MIB / 4);
}

#[test]
fn data_that_does_not_yield_is_left_alone_after_two_pieces() {
    assert_eq!(send(NOISE, 3 * MIB / 2).in_vain, 2);
    // Tried again now and then, ever more rarely.
    let long = send(NOISE, 500 * MIB);
    assert!((5..=30).contains(&long.in_vain), "{}", long.in_vain);
    assert_eq!(long.packed, 0);
}

#[test]
fn data_that_begins_to_yield_is_found() {
    let mut sender = Sender::default();
    sender.send(NOISE, 10 * MIB);
    let text = sender.send(USUAL, 50 * MIB);
    assert!(text.packed > 35 * MIB, "{}", text.packed);
    let noise = sender.send(NOISE, 10 * MIB);
    assert!((2..=8).contains(&noise.in_vain), "{}", noise.in_vain);
}

#[test]
fn a_line_that_becomes_fast_is_found_and_one_that_becomes_slow_again_too() {
    let mut sender = Sender::default();
    assert!(sender.send(USUAL, 25 * MIB).packed > 23 * MIB);
    let sent = sender.send(FAST, 1000 * MIB);
    assert!(sent.packed <= 16 * MIB, "{}", sent.packed);
    assert!(sender.send(USUAL, 25 * MIB).packed > 21 * MIB);
}

#[test]
fn where_packing_relieves_the_line_it_goes_on_but_for_a_try() {
    let world = World {
        line: 12.5e6,
        packs: 1000e6,
        makes: 60e6,
        ratio: 2,
        starved: None,
    };
    let mut sender = Sender::default();
    sender.send(world, 500 * MIB);
    let sent = sender.send(world, 500 * MIB);
    assert!(sent.packed > 475 * MIB, "{}", sent.packed);
    assert!(sent.plain > 0, "it is tried");
}

#[test]
fn a_slow_machine_that_packs_no_faster_than_the_line_stops() {
    let world = World {
        line: 12.5e6,
        packs: 13e6,
        ..USUAL
    };
    let sent = send(world, 500 * MIB);
    assert!(sent.packed <= 20 * MIB, "{}", sent.packed);
}

#[test]
fn a_machine_that_was_busy_for_a_moment_goes_on() {
    let mut sender = Sender::default();
    sender.send(USUAL, 4 * MIB);
    let busy = World {
        packs: 1e6,
        ..USUAL
    };
    assert_eq!(sender.send(busy, MIB / 4).packed, MIB / 4);
    assert_eq!(sender.send(USUAL, 20 * MIB).plain, 0);
    // Busy for long: what it costs is learnt, and forgotten.
    sender.send(busy, 10 * MIB);
    assert!(sender.send(USUAL, 50 * MIB).packed > 30 * MIB);
}

#[test]
fn what_was_learnt_of_the_line_serves_the_next_transfer() {
    let mut sender = Sender::default();
    sender.send(USUAL, 4 * MIB);
    sender.rest();
    assert_eq!(sender.send(NOISE, MIB).in_vain, 2);
    sender.rest();
    assert_eq!(sender.send(USUAL, MIB).packed, MIB);
}

#[test]
fn short_bodies_are_not_packed() {
    let mut sender = Sender::default();
    sender.send(USUAL, 4 * MIB);
    assert!(!sender.transfer.packs(&sender.line, SMALLEST - 1));
    assert!(sender.transfer.packs(&sender.line, SMALLEST));
}
