//! Connections that have proven nothing yet: a bounded number of places, and whose is freed for the next.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use tokio_util::sync::CancellationToken;

/// Connections without proof, oldest first.
#[derive(Debug, Default)]
pub struct Pending {
    /// The number that was given last.
    pub next: u64,
    /// The places, by number: how to end whoever holds one, and whence he came.
    pub places: BTreeMap<u64, (CancellationToken, IpAddr)>,
}

impl Pending {
    /// Frees a place: the oldest one of the network that has most, so that a crowd from one does not push out the others.
    pub fn make_room(&mut self) {
        let mut crowds: HashMap<IpAddr, (usize, u64)> = HashMap::new();
        for (number, (_, network)) in self.places.iter().rev() {
            let (count, oldest) = crowds.entry(*network).or_default();
            *count += 1;
            *oldest = *number;
        }
        let largest = crowds.into_values();
        let chosen = largest.max_by_key(|(count, oldest)| (*count, std::cmp::Reverse(*oldest)));
        if let Some((_, number)) = chosen
            && let Some((token, _)) = self.places.remove(&number)
        {
            token.cancel();
        }
    }
}

/// Whom an address belongs to, as far as it tells: one of IPv6 stands for all of its network of 64 bits.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::{Pending, network};
    use tokio_util::sync::CancellationToken;

    #[test]
    fn a_crowd_from_one_network_does_not_push_out_the_others() {
        let mut pending = Pending::default();
        let add = |pending: &mut Pending, address: &str| {
            pending.next += 1;
            let token = CancellationToken::new();
            let network = network(address.parse().unwrap());
            pending
                .places
                .insert(pending.next, (token.clone(), network));
            token
        };
        let device = add(&mut pending, "192.0.2.1");
        let mapped = add(&mut pending, "::ffff:192.0.2.1");
        let crowd: Vec<_> = (0..10)
            .map(|n| add(&mut pending, &format!("2001:db8::{n}")))
            .collect();
        for gone in 1..=8 {
            pending.make_room();
            assert!(!device.is_cancelled() && !mapped.is_cancelled());
            let cancelled = crowd.iter().map(|it| it.is_cancelled());
            let expected = (0..10).map(|number| number < gone);
            assert!(cancelled.eq(expected), "{gone}");
        }
        // Of equals the oldest goes.
        pending.make_room();
        assert!(device.is_cancelled() && !mapped.is_cancelled());
    }
}
