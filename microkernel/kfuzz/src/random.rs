//! Random numbers: SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014).

pub struct Random(u64);

impl Random {
    /// An independent sequence for each combination of words.
    pub fn new(words: [u64; 3]) -> Self {
        let mut random = Self(0);
        for word in words {
            random.0 = random.next() ^ word;
        }
        random
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// A number that programs stumble over.
    pub fn wild(&mut self) -> u64 {
        const EDGES: [u64; 24] = [
            0,
            1,
            2,
            7,
            63,
            64,
            65,
            255,
            256,
            0xfff,
            0x1000,
            0x1001,
            0x20_0000,
            0xffff_ffff,
            1 << 32,
            (1 << 47) - 4096,
            1 << 47,
            0xffff_8000_0000_0000,
            0xffff_ffff_8010_0000,
            1 << 63,
            (1 << 63) - 1,
            u64::MAX - 4095,
            u64::MAX - 1,
            u64::MAX,
        ];
        match self.below(4) {
            0 => self.next(),
            1 => 1 << self.below(64),
            _ => self.pick(&EDGES),
        }
    }
}
