//! Which core of its host a task had: records do not say, and any that was free will do.

use std::collections::BTreeSet;

use crate::kernel::SimTime;
use crate::platform::HostId;
use crate::run::TaskRecord;

/// For each task a row of its host, from 0. Tasks of one row do not overlap.
pub(super) fn lanes(records: &[TaskRecord]) -> Vec<u32> {
    let mut order: Vec<usize> = (0..records.len()).collect();
    order.sort_by_key(|&at| (records[at].host, records[at].started, at));
    let mut lanes = vec![0; records.len()];
    let mut host: Option<HostId> = None;
    let (mut free, mut busy, mut rows) = (BTreeSet::new(), BTreeSet::<(SimTime, u32)>::new(), 0);
    for at in order {
        let record = &records[at];
        if host != Some(record.host) {
            host = Some(record.host);
            (free, busy, rows) = (BTreeSet::new(), BTreeSet::new(), 0);
        }
        while let Some((_, lane)) = busy.first().filter(|(end, _)| *end <= record.started).copied()
        {
            busy.pop_first();
            free.insert(lane);
        }
        let lane = free.pop_first().unwrap_or_else(|| {
            rows += 1;
            rows - 1
        });
        busy.insert((record.finished.max(record.started), lane));
        lanes[at] = lane;
    }
    lanes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Span;

    #[test]
    fn tasks_of_a_row_do_not_overlap() {
        let record = |host, from, to| TaskRecord {
            host: HostId(host),
            started: SimTime::ZERO + Span::from_seconds(from),
            finished: SimTime::ZERO + Span::from_seconds(to),
            ..TaskRecord::default()
        };
        let records = [
            record(1, 0.0, 4.0),
            record(0, 0.0, 2.0),
            record(1, 1.0, 2.0),
            record(1, 2.0, 3.0),
            record(1, 2.5, 5.0),
            record(1, 4.0, 5.0),
        ];
        assert_eq!(lanes(&records), [0, 0, 1, 1, 2, 0]);
    }
}
