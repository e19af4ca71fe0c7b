//! Randomness that is a function of (seed, purpose, entity, count).
//!
//! Every host, task or transfer has a stream of its own for every purpose. A policy that draws once
//! more shifts nobody else's numbers, so two policies under one seed see the same world (common
//! random numbers), and their difference has less noise.
//!
//! The function is Philox2x64-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as
//! 1, 2, 3", SC 2011): the key is made of seed and purpose, the counter is (count, entity), so that
//! two streams of one purpose never meet.

/// What numbers are drawn for. The numbers behind the names are part of the golden streams: append
/// only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Purpose {
    /// The speed of a host.
    Speed = 1,
    /// When a host goes and comes.
    Churn = 2,
    /// Sizes and times of a generated workload.
    Workload = 3,
    /// When users come.
    Arrival = 4,
    /// How far the estimate of a task is off.
    Estimate = 5,
    /// Whether an execution is slowed down, and by how much.
    Straggler = 6,
    /// The choices of a policy.
    Policy = 7,
    /// From which holder an object is fetched.
    Source = 8,
    /// How long a sandbox takes to start.
    Start = 9,
    /// When a gossip message reaches whom.
    Gossip = 10,
    /// Whether a host lies.
    Liar = 11,
    /// Which results of others are checked.
    Audit = 12,
    /// When a host's owner uses it.
    Owner = 13,
}

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Draws {
    key: u64,
    entity: u64,
    block: u64,
    spare: Option<u64>,
}

impl Draws {
    /// The stream of `entity` for `purpose` under `seed`.
    pub fn new(seed: u64, purpose: Purpose, entity: u64) -> Self {
        // For one seed the sums differ by purpose, and mixing is a bijection.
        let key = mix(seed.wrapping_add((purpose as u64).wrapping_mul(WEYL)));
        Self { key, entity, block: 0, spare: None }
    }

    /// The stream of a pair, such as (task, attempt).
    pub fn of_pair(seed: u64, purpose: Purpose, a: u32, b: u32) -> Self {
        Self::new(seed, purpose, (u64::from(a) << 32) | u64::from(b))
    }

    /// Uniform over all 64-bit numbers.
    pub fn next_u64(&mut self) -> u64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let [first, second] = philox([self.block, self.entity], self.key);
        self.block += 1;
        self.spare = Some(second);
        first
    }

    /// Uniform in [0, 1), a multiple of 2^-53.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// Uniform in (0, 1]: what a logarithm may be taken of.
    pub fn unit_positive(&mut self) -> f64 {
        1.0 - self.unit()
    }

    /// Uniform in 0..n; 0 if `n` is 0. The bias of at most n / 2^64 is not worth a second draw, which
    /// would make the number of draws depend on their values.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }

    /// Normal with mean 0 and deviation 1 (Box and Muller); always two draws.
    pub fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log(self.unit_positive()));
        radius * libm::cos(std::f64::consts::TAU * self.unit())
    }
}

const WEYL: u64 = 0x9E37_79B9_7F4A_7C15;
const MULTIPLIER: u64 = 0xD2B7_4407_B1CE_6E93;

fn philox(mut counter: [u64; 2], mut key: u64) -> [u64; 2] {
    for _ in 0..10 {
        let product = u128::from(counter[0]) * u128::from(MULTIPLIER);
        counter = [(product >> 64) as u64 ^ key ^ counter[1], product as u64];
        key = key.wrapping_add(WEYL);
    }
    counter
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers of the Random123 distribution.
    #[test]
    fn philox_gives_the_published_answers() {
        assert_eq!(philox([0, 0], 0), [0xca00_a045_9843_d731, 0x66c2_4222_c9a8_45b5]);
        assert_eq!(
            philox([u64::MAX, u64::MAX], u64::MAX),
            [0x65b0_21d6_0cd8_310f, 0x4d02_f322_2f86_df20]
        );
        assert_eq!(
            philox([0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344], 0xa409_3822_299f_31d0),
            [0x0a5e_742c_2997_341c, 0xb0f8_83d3_8000_de5d]
        );
    }

    /// Streams are part of the promise "same seed, same bytes": these never change.
    #[test]
    fn streams_are_pinned() {
        let first = |seed, purpose, entity| Draws::new(seed, purpose, entity).next_u64();
        let seen = [
            first(0, Purpose::Speed, 0),
            first(1, Purpose::Speed, 0),
            first(0, Purpose::Churn, 0),
            first(0, Purpose::Speed, 1),
            Draws::of_pair(7, Purpose::Straggler, 3, 4).next_u64(),
        ];
        let pinned = [
            2_131_742_163_564_524_974,
            3_198_973_215_473_117_905,
            3_531_093_125_130_831_612,
            10_041_801_660_450_128_438,
            6_006_911_236_478_823_201,
        ];
        assert_eq!(seen, pinned);
    }

    #[test]
    fn streams_do_not_depend_on_each_other() {
        let mut once = Draws::new(5, Purpose::Policy, 0);
        let mut other = Draws::new(5, Purpose::Estimate, 0);
        let expected: Vec<u64> = (0..8).map(|_| other.next_u64()).collect();
        let mut again = Draws::new(5, Purpose::Estimate, 0);
        let seen: Vec<u64> = (0..8)
            .map(|_| {
                once.next_u64();
                again.next_u64()
            })
            .collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn moments_are_right() {
        let n = 200_000;
        let mut draws = Draws::new(11, Purpose::Workload, 0);
        let mean = (0..n).map(|_| draws.unit()).sum::<f64>() / f64::from(n);
        assert!((mean - 0.5).abs() < 0.003, "{mean}");
        // The first number of every stream is as good as the numbers of one stream.
        let mean = (0..n)
            .map(|entity| Draws::new(11, Purpose::Workload, u64::from(entity as u32)).unit())
            .sum::<f64>()
            / f64::from(n);
        assert!((mean - 0.5).abs() < 0.003, "{mean}");
        let normals: Vec<f64> = (0..n).map(|_| draws.normal()).collect();
        let mean = normals.iter().sum::<f64>() / f64::from(n);
        let variance = normals.iter().map(|x| x * x).sum::<f64>() / f64::from(n);
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
        let mut counts = [0_u32; 7];
        (0..n).for_each(|_| counts[draws.below(7)] += 1);
        let expected = f64::from(n) / 7.0;
        let chi: f64 =
            counts.iter().map(|&c| f64::from(c) - expected).map(|d| d * d / expected).sum();
        // 0.999 quantile with six degrees of freedom.
        assert!(chi < 22.46, "{chi}");
    }
}
