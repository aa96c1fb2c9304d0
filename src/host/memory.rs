//! What the allocator keeps for later.

/// Blocks up to this length come from what the allocator keeps, in bytes: the pieces of large files among them.
const KEPT: usize = 4 * 1024 * 1024;

/// Has the allocator keep what pieces of large files free. Otherwise glibc gives each back to the system, whose next one then
/// costs a fault a page: some 8 % of the time of an upload.
///
/// glibc takes a block of over 128 KiB from the system, and when one is freed it takes such blocks from its own memory from
/// then on, of which it keeps up to twice that length at the end of an arena (mallopt(3), `M_MMAP_THRESHOLD`). So one block
/// is taken and freed, of which nothing is ever touched. Other allocators do as they like.
pub fn keep_pieces() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(KEPT)));
}

#[cfg(test)]
#[cfg(target_env = "gnu")]
mod tests {
    /// Page faults of this thread so far.
    fn faults() -> u64 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        fields.split_whitespace().nth(7).unwrap().parse().unwrap()
    }

    #[test]
    fn pieces_come_from_what_those_before_them_left() {
        let pieces = || drop(std::hint::black_box([(); 6].map(|()| vec![1u8; 1 << 20])));
        super::keep_pieces();
        pieces();
        let before = faults();
        (0..20).for_each(|_| pieces());
        // Those of one round have 1,536 pages.
        let more = faults() - before;
        assert!(more < 3000, "{more} faults");
    }
}
