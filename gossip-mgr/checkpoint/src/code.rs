//! The codes over a group: which member holds what, parity, and what was lost.
//!
//! A group of n members with m parities is striped as RAID is: in each of n stripes m members hold a parity chunk and the
//! other k = n - m a chunk of their own piece. Each member so gives k chunks and stores m chunks of parity. One parity is
//! an exclusive or, more are a Reed-Solomon code; both lose any m members.

/// Chunks are multiples of this, as the Reed-Solomon code works on 64 bytes at a time.
const GRAIN: u64 = 64;

/// Bytes of each shard that are coded at once: they fit the cache, and a rebuilder must use the same cuts.
pub const BLOCK: u64 = 256 << 10;

/// More shards are missing than there are parities.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{missing} shards of a stripe are lost and its code recovers {parities}")]
pub struct TooManyLost {
    /// Lost shards.
    pub missing: usize,
    /// Parities of the code.
    pub parities: usize,
}

/// The sizes of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    members: usize,
    parities: usize,
}

/// A shard of a stripe: the first k are data, then come the parities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which member holds it.
    pub member: usize,
    /// Which of the chunks of that member's piece, or of its parity.
    pub chunk: usize,
    /// Whether it is parity.
    pub is_parity: bool,
}

impl Shape {
    /// A group of `members` that may lose `parities` of them; none if nothing would remain.
    pub fn new(members: usize, parities: usize) -> Option<Self> {
        (parities > 0 && parities < members).then_some(Self { members, parities })
    }

    /// Chunks of a piece.
    pub fn data(self) -> usize {
        self.members - self.parities
    }

    /// Chunks of parity that a member stores.
    pub fn parities(self) -> usize {
        self.parities
    }

    /// Length of a chunk for pieces of at most `longest` bytes.
    pub fn chunk_length(self, longest: u64) -> u64 {
        longest.div_ceil(self.data() as u64).next_multiple_of(GRAIN).max(GRAIN)
    }

    /// The shards of a stripe in the order of the code.
    pub fn stripe(self, stripe: usize) -> Vec<Shard> {
        let at = |offset: usize| (stripe + offset) % self.members;
        let data = (0..self.data()).map(|i| Shard { member: at(self.parities + i), chunk: i, is_parity: false });
        let parity = (0..self.parities).map(|row| Shard { member: at(row), chunk: row, is_parity: true });
        data.chain(parity).collect()
    }

    /// In which stripe a member's chunk of data is; it is the chunk's number among the stripe's shards, too.
    pub fn stripe_of_data(self, member: usize, chunk: usize) -> usize {
        (member + 2 * self.members - self.parities - chunk) % self.members
    }

    /// In which stripe a member's chunk of parity is.
    pub fn stripe_of_parity(self, member: usize, row: usize) -> usize {
        (member + self.members - row) % self.members
    }

    /// Parity `row` of the data shards of one stripe, which are equally long.
    pub fn parity(self, row: usize, data: &[Vec<u8>]) -> Vec<u8> {
        assert_eq!(data.len(), self.data(), "a stripe has all its data");
        if self.parities == 1 {
            return xor(data);
        }
        let coded = reed_solomon_simd::encode(self.data(), self.parities, data);
        coded.expect("the shards are equally long and their length is a multiple of 64").swap_remove(row)
    }

    /// Data shard `wanted` of a stripe from those that are there.
    ///
    /// # Errors
    /// [`TooManyLost`].
    pub fn recover(self, wanted: usize, mut shards: Vec<Option<Vec<u8>>>) -> Result<Vec<u8>, TooManyLost> {
        assert_eq!(shards.len(), self.members, "a stripe has a place for each shard");
        if let Some(whole) = shards[wanted].take() {
            return Ok(whole);
        }
        let missing = shards.iter().filter(|shard| shard.is_none()).count();
        if missing > self.parities {
            return Err(TooManyLost { missing, parities: self.parities });
        }
        if self.parities == 1 {
            let rest: Vec<Vec<u8>> = shards.into_iter().flatten().collect();
            return Ok(xor(&rest));
        }
        let parity = shards.split_off(self.data());
        let present = |shards: Vec<Option<Vec<u8>>>| {
            shards.into_iter().enumerate().filter_map(|(at, shard)| Some((at, shard?))).collect::<Vec<_>>()
        };
        let restored = reed_solomon_simd::decode(self.data(), self.parities, present(shards), present(parity));
        let mut restored = restored.expect("enough shards of one length, as many as were coded");
        Ok(restored.remove(&wanted).expect("the decoder gives all data that was missing"))
    }
}

fn xor(shards: &[Vec<u8>]) -> Vec<u8> {
    let mut sum = shards[0].clone();
    for shard in &shards[1..] {
        for (to, from) in sum.iter_mut().zip(shard) {
            *to ^= from;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shards of one stripe.
    fn stripe(shape: Shape) -> Vec<Vec<u8>> {
        let shard = |at: usize| (0..GRAIN as usize).map(|i| (i * 7 + at * 31 + i / 11) as u8).collect();
        let mut shards: Vec<Vec<u8>> = (0..shape.data()).map(shard).collect();
        let parity: Vec<Vec<u8>> = (0..shape.parities).map(|row| shape.parity(row, &shards)).collect();
        shards.extend(parity);
        shards
    }

    #[test]
    fn any_shards_up_to_the_parities_are_recovered_in_all_groups_up_to_ten() {
        for members in 2..=10 {
            for parities in 1..members {
                let shape = Shape::new(members, parities).unwrap();
                let whole = stripe(shape);
                for lost in (1_u32..1 << members).filter(|lost| lost.count_ones() as usize <= parities) {
                    let is_lost = |at: usize| lost >> at & 1 == 1;
                    let Some(wanted) = (0..shape.data()).rev().find(|&at| is_lost(at)) else { continue };
                    let left = (0..members).map(|at| (!is_lost(at)).then(|| whole[at].clone())).collect();
                    assert!(shape.recover(wanted, left).unwrap() == whole[wanted], "{shape:?} lost {lost:b}");
                }
            }
        }
    }

    #[test]
    fn each_chunk_is_in_one_stripe_and_each_stripe_on_all_members() {
        for members in 2..=10 {
            for parities in 1..members {
                let shape = Shape::new(members, parities).unwrap();
                let mut seen = std::collections::BTreeSet::new();
                for at in 0..members {
                    let shards = shape.stripe(at);
                    let holders: std::collections::BTreeSet<usize> = shards.iter().map(|s| s.member).collect();
                    assert_eq!(holders.len(), members, "a lost member loses one shard of a stripe");
                    for (place, s) in shards.iter().enumerate() {
                        let (stripe, own) = match s.is_parity {
                            false => (shape.stripe_of_data(s.member, s.chunk), s.chunk),
                            true => (shape.stripe_of_parity(s.member, s.chunk), shape.data() + s.chunk),
                        };
                        assert_eq!((stripe, own), (at, place));
                        assert!(seen.insert((s.member, s.chunk, s.is_parity)));
                    }
                }
                assert_eq!(seen.len(), members * members);
            }
        }
    }

    #[test]
    fn one_more_than_the_parities_is_refused() {
        for (members, parities) in [(4, 1), (6, 2)] {
            let shape = Shape::new(members, parities).unwrap();
            let mut shards = vec![Some(vec![0; 64]); members];
            shards[..=parities].fill(None);
            assert_eq!(shape.recover(0, shards), Err(TooManyLost { missing: parities + 1, parities }));
        }
    }

    #[test]
    fn a_group_needs_data_and_parity() {
        assert!(Shape::new(3, 0).is_none() && Shape::new(3, 3).is_none() && Shape::new(1, 1).is_none());
    }
}
