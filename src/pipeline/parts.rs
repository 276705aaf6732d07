//! How an object is cut into parts: sizes that fit the store's limits, and bounded memory.
//!
//! Pure arithmetic. The collector asks for each part's size, the parts' memory for the number in flight.

/// Smaller parts cost more in requests than they carry; 10,000 of this size hold 117 GiB.
const LEAST_AUTO_PART: u64 = 12 << 20;
/// Largest part S3 takes (AWS: "Amazon S3 multipart upload limits").
const LARGEST_PART: u64 = 5 << 30;
/// Parts being filled or in flight take at most this together, unless a single one is larger.
const MOST_MEMORY: u64 = 96 << 20;

/// The user's and the store's limits for parts.
#[derive(Clone, Debug)]
pub struct PartSettings {
    /// Size in bytes that the user set; `None` derives it from the database's size.
    pub base: Option<u64>,
    /// Most parts the store takes.
    pub max_parts: u32,
    /// All parts but the last must have the same size.
    pub equal: bool,
    /// Most parts in flight.
    pub concurrency: u32,
}

impl PartSettings {
    /// Whether these settings allow an object in parts of these sizes, in order.
    #[must_use]
    pub fn allow(&self, sizes: &[u64]) -> bool {
        let Some((last, others)) = sizes.split_last() else { return true };
        let are_equal =
            others.iter().all(|size| *size == others[0]) && others.first().is_none_or(|first| last <= first);
        let is_base = self.base.is_none_or(|base| others.first().map_or(*last <= base, |first| *first == base));
        sizes.len() <= self.max_parts as usize && is_base && (!self.equal || are_equal)
    }

    /// The plan for an object of known size in bytes: equal parts, which every store takes.
    #[must_use]
    pub fn plan_for(&self, object_bytes: u64) -> PartPlan {
        let needed = object_bytes.div_ceil(u64::from(self.max_parts.max(1)));
        let base = self.base.unwrap_or(LEAST_AUTO_PART).max(needed);
        PartPlan::new(&Self { base: Some(base), equal: true, ..self.clone() }, 0)
    }
}

/// The plan for one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartPlan {
    base: u64,
    max_parts: u32,
    equal: bool,
    concurrency: u32,
}

impl PartPlan {
    /// Plans for a database of `database_bytes` (`pg_database_size`: an estimate, not a bound).
    #[must_use]
    pub fn new(settings: &PartSettings, database_bytes: u64) -> Self {
        let limit = u64::from(settings.max_parts);
        let needed = if settings.equal {
            // Equal parts cannot grow later: assumes that compression gains nothing, and adds a quarter.
            (database_bytes.saturating_add(database_bytes / 4)).div_ceil(limit)
        } else {
            (database_bytes / 3).div_ceil(limit)
        };
        let base = settings.base.unwrap_or_else(|| needed.max(LEAST_AUTO_PART)).min(LARGEST_PART);
        Self { base, max_parts: settings.max_parts, equal: settings.equal, concurrency: settings.concurrency }
    }

    /// Size in bytes of part `number` (from 1): the base, doubling every sixteenth of the limit after its half.
    #[must_use]
    pub fn size_of(&self, number: u32) -> u64 {
        let half = self.max_parts / 2;
        if self.equal || number <= half {
            return self.base;
        }
        let step = (self.max_parts / 16).max(1);
        let doublings = ((number - half - 1) / step + 1).min(40);
        self.base.saturating_mul(1 << doublings).min(LARGEST_PART)
    }

    /// How many parts may be in flight while part `number` is: the configured number, or fewer to bound memory.
    #[must_use]
    pub fn in_flight(&self, number: u32) -> u32 {
        self.in_flight_of(self.size_of(number))
    }

    /// How many parts of this size in bytes may be in flight.
    pub(super) fn in_flight_of(&self, bytes: u64) -> u32 {
        let fitting = (MOST_MEMORY / bytes.max(1)).saturating_sub(1).max(1);
        u32::try_from(fitting).unwrap_or(u32::MAX).min(self.concurrency)
    }

    /// Most parts of the upload.
    #[must_use]
    pub fn max_parts(&self) -> u32 {
        self.max_parts
    }

    /// Whether the number of equal parts comes near the limit.
    #[must_use]
    pub fn is_nearly_full(&self, number: u32) -> bool {
        self.equal && u64::from(number) * 5 == u64::from(self.max_parts) * 4
    }

    /// Bytes that parts may take in memory at the start: those in flight and the one being filled.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.base * (u64::from(self.in_flight(1)) + 1)
    }

    /// How many parts may be in flight from disk while part `number` is: one less than from memory, because another
    /// part is being written to disk. If memory holds two, one is in flight, and the other is filled and written in
    /// turn.
    #[must_use]
    pub fn in_flight_from_disk(&self, number: u32) -> u32 {
        self.in_flight(number).saturating_sub(1).max(1)
    }

    /// Size in bytes of the first part.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.base
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings() -> PartSettings {
        PartSettings { base: None, max_parts: 10_000, equal: false, concurrency: 4 }
    }

    fn capacity(plan: &PartPlan) -> u64 {
        (1..=plan.max_parts).map(|number| plan.size_of(number)).fold(0, u64::saturating_add)
    }

    #[test]
    fn parts_double_after_half_the_limit() {
        let plan = PartPlan::new(&settings(), 0);
        let sizes = [1, 5000, 5001, 5625, 5626, 10_000].map(|number| plan.size_of(number) >> 20);
        assert_eq!(sizes, [12, 12, 24, 24, 48, 3072]);
        assert_eq!(plan.in_flight(1), 4);
    }

    #[test]
    fn the_largest_object_fits_where_the_estimate_is_ten_times_too_small() {
        const TIB: u64 = 1 << 40;
        assert!(capacity(&PartPlan::new(&settings(), 0)) > 3 * TIB);
        assert!(capacity(&PartPlan::new(&settings(), TIB / 2)) > 5 * TIB, "S3's largest object had 5 TiB for long");
    }

    #[test]
    fn each_part_is_one_that_s3_takes_whatever_the_databases_size() {
        // AWS: "Amazon S3 multipart upload limits".
        let (least, most) = (5 << 20, 5 << 30);
        for database in [0, 1, 36 << 30, 351 << 30, 1 << 40, 48 << 40, 1 << 60, u64::MAX] {
            for equal in [false, true] {
                let plan = PartPlan::new(&PartSettings { equal, ..settings() }, database);
                let sizes: Vec<u64> = (1..=plan.max_parts()).map(|number| plan.size_of(number)).collect();
                assert!(sizes.is_sorted() && sizes[0] >= least && sizes[9_999] <= most, "{database} bytes");
                assert!(!equal || sizes[0] == sizes[9_999], "{database} bytes in equal parts");
            }
        }
        // As large as its estimate, stored at a third of it: the memory of the first part is that of the run.
        let plan = PartPlan::new(&settings(), 175 << 30);
        assert!(u64::from(plan.max_parts() / 2) * plan.base() > (175 << 30) / 3 && plan.memory() == 60 << 20);
    }

    #[test]
    fn parts_of_other_limits_are_noticed_and_replanned_for_every_store() {
        const MIB: u64 = 1 << 20;
        let equal = PartSettings { equal: true, ..settings() };
        let few = PartSettings { max_parts: 2, ..settings() };
        let own = PartSettings { base: Some(12 * MIB), ..settings() };
        for (sizes, allowed) in [
            (&[12, 12, 3][..], [true, true, false, true]),
            (&[12, 12], [true, true, true, true]),
            (&[12, 24, 3], [true, false, false, true]),
            (&[12, 24], [true, false, true, true]),
            (&[5, 5, 3], [true, true, false, false]),
            (&[24], [true, true, true, false]),
            (&[3], [true, true, true, true]),
        ] {
            let sizes: Vec<u64> = sizes.iter().map(|size| size * MIB).collect();
            let answers = [&settings(), &equal, &few, &own].map(|settings| settings.allow(&sizes));
            assert_eq!(answers, allowed, "{sizes:?}");
        }
        for (settings, bytes, base) in [(&settings(), 99, 12), (&few, 99, 50), (&own, 99, 12), (&equal, 200_000, 20)] {
            let plan = settings.plan_for(bytes * MIB);
            assert_eq!(plan.base().div_ceil(MIB), base, "{settings:?}");
            assert!(capacity(&plan) >= bytes * MIB && plan.size_of(1) == plan.size_of(plan.max_parts()));
        }
    }

    #[test]
    fn as_many_parts_are_in_flight_as_fit_beside_the_one_being_filled() {
        for (base, concurrency) in (5..200).flat_map(|base| (1..=64).map(move |most| (base << 20, most))) {
            let plan = PartPlan::new(&PartSettings { base: Some(base), concurrency, ..settings() }, 0);
            let mut before = concurrency;
            // The first parts of each size among them.
            for number in (1..=10_000).step_by(25) {
                let (size, in_flight) = (plan.size_of(number), plan.in_flight(number));
                let together = |others: u32| size * (u64::from(others) + 1);
                let what = || format!("part {number} of {size} bytes, {in_flight} of {concurrency} in flight");
                assert!(in_flight >= 1 && in_flight <= before, "{}: more than of smaller ones, {before}", what());
                assert!(together(in_flight) <= MOST_MEMORY || in_flight == 1, "{}: too many", what());
                assert!(together(in_flight + 1) > MOST_MEMORY || in_flight == concurrency, "{}: too few", what());
                before = in_flight;
            }
        }
    }

    proptest! {
        #[test]
        fn the_estimate_fits(database in 0u64..(60 << 40), equal: bool, max_parts in 1000u32..=10_000) {
            let plan = PartPlan::new(&PartSettings { max_parts, equal, ..settings() }, database);
            prop_assume!(plan.base() < LARGEST_PART);
            let expected = if equal { database } else { database / 3 };
            prop_assert!(capacity(&plan) >= expected);
        }
    }
}
