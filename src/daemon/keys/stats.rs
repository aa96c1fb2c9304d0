//! What `stats` and `version` say.

use super::listener::Port;
use super::{Keys, now};
use crate::host::clock;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;

/// The protocol is that of memcached 1.6 without the meta commands; clients read the first number.
pub(super) const VERSION: &str = concat!("1.6.0-syncd-", env!("CARGO_PKG_VERSION"));

/// The answer to `stats`, with its end.
pub(super) fn text(keys: &Keys, port: &Port, kind: &[u8]) -> String {
    let mut lines = Lines(String::new());
    match kind {
        b"" => general(&mut lines, keys, port),
        b"settings" => settings(&mut lines, keys, port),
        b"items" | b"conns" | b"cachedump" => {}
        b"slabs" => {
            lines.add("active_slabs", 0);
            lines.add("total_malloced", 0);
        }
        b"sizes" => lines.add("sizes_status", "disabled"),
        // Nothing is set back: other users of the numbers would be surprised.
        b"reset" => return "RESET\r\n".to_owned(),
        _ => return "ERROR\r\n".to_owned(),
    }
    lines.0.push_str("END\r\n");
    lines.0
}

struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, value: impl std::fmt::Display) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, "STAT {name} {value}\r\n");
    }
}

fn general(lines: &mut Lines, keys: &Keys, port: &Port) {
    let counters = &keys.counters;
    let (mut items, mut bytes) = (0, 0);
    for (space, own_items, own_bytes) in keys.status().spaces {
        if space == port.space {
            (items, bytes) = (own_items, own_bytes);
        }
    }
    let uptime = clock::monotonic().saturating_duration_since(port.since);
    lines.add("pid", std::process::id());
    lines.add("uptime", uptime.as_secs());
    lines.add("time", now() / 1000);
    lines.add("version", VERSION);
    lines.add("pointer_size", usize::BITS);
    lines.add("max_connections", port.max_connections);
    lines.add("curr_connections", port.open.load(Ordering::Relaxed));
    lines.add("curr_items", items);
    lines.add("bytes", bytes);
    lines.add("limit_maxbytes", keys.max_total);
    let (hits, misses) = (counters.get_hits.get(), counters.get_misses.get());
    let touches = counters.touch_hits.get() + counters.touch_misses.get();
    lines.add("cmd_get", hits + misses);
    lines.add("cmd_touch", touches);
    lines.add("evictions", 0);
    let numbers = [
        ("total_connections", &counters.total_connections),
        ("rejected_connections", &counters.rejected_connections),
        ("cmd_set", &counters.cmd_set),
        ("total_items", &counters.cmd_set),
        ("cmd_flush", &counters.cmd_flush),
        ("get_hits", &counters.get_hits),
        ("get_misses", &counters.get_misses),
        ("delete_hits", &counters.delete_hits),
        ("delete_misses", &counters.delete_misses),
        ("incr_hits", &counters.incr_hits),
        ("incr_misses", &counters.incr_misses),
        ("decr_hits", &counters.decr_hits),
        ("decr_misses", &counters.decr_misses),
        ("cas_hits", &counters.cas_hits),
        ("cas_misses", &counters.cas_misses),
        ("cas_badval", &counters.cas_badval),
        ("touch_hits", &counters.touch_hits),
        ("touch_misses", &counters.touch_misses),
        ("store_too_large", &counters.store_too_large),
        ("store_no_memory", &counters.store_no_memory),
        ("bytes_read", &counters.bytes_read),
        ("bytes_written", &counters.bytes_written),
    ];
    for (name, counter) in numbers {
        lines.add(name, counter.get());
    }
}

fn settings(lines: &mut Lines, keys: &Keys, port: &Port) {
    lines.add("maxbytes", keys.max_total);
    lines.add("maxconns", port.max_connections);
    lines.add("tcpport", port.address.port());
    lines.add("udpport", 0);
    lines.add("inter", port.address.ip());
    lines.add("evictions", "off");
    lines.add("cas_enabled", "yes");
    lines.add("flush_enabled", "yes");
    lines.add("item_size_max", keys.max_value);
}
