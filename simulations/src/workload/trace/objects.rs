//! What runs read that no run made: thousands of files, in few groups.

use std::collections::BTreeMap;

use super::Run;
use crate::limits::TRACE_STEPS_MAX;

/// Sizes of objects, and what is in trees.
pub(super) struct Contents {
    sizes: Vec<u64>,
    trees: BTreeMap<u32, Vec<u32>>,
}

impl Contents {
    pub(super) fn new(sizes: Vec<u64>, trees: BTreeMap<u32, Vec<u32>>) -> Result<Self, String> {
        let contents = Self { sizes, trees };
        contents.check("otherData.trees", contents.trees.keys())?;
        for held in contents.trees.values() {
            contents.check("otherData.trees", held.iter())?;
        }
        Ok(contents)
    }

    pub(super) fn len(&self) -> usize {
        self.sizes.len()
    }

    /// Refuses positions that are none.
    pub(super) fn check<'a>(
        &self,
        what: &str,
        mut positions: impl Iterator<Item = &'a u32>,
    ) -> Result<(), String> {
        let len = self.sizes.len();
        match positions.find(|at| **at as usize >= len) {
            Some(at) => Err(format!("{what:?} names object {at} of {len}")),
            None => Ok(()),
        }
    }
}

/// Walks through trees.
pub(super) struct Walk<'a> {
    contents: &'a Contents,
    /// In which walk each object was seen last.
    seen: Vec<u64>,
    walks: u64,
    steps: u64,
}

impl<'a> Walk<'a> {
    pub(super) fn new(contents: &'a Contents) -> Self {
        Self { contents, seen: vec![0; contents.len()], walks: 0, steps: 0 }
    }

    /// Visits these objects and what is in them, each once; `look` says whether to look inside. It
    /// ends even where a tree is said to hold itself, which no real one can.
    pub(super) fn visit(
        &mut self,
        from: &[u32],
        mut look: impl FnMut(u32) -> bool,
    ) -> Result<(), String> {
        self.walks += 1;
        let mut open: Vec<u32> = from.to_vec();
        while let Some(object) = open.pop() {
            self.steps += 1;
            if self.steps > TRACE_STEPS_MAX {
                return Err(format!("runs read objects more than {TRACE_STEPS_MAX} times"));
            }
            let seen = &mut self.seen[object as usize];
            if std::mem::replace(seen, self.walks) != self.walks && look(object) {
                open.extend(self.contents.trees.get(&object).into_iter().flatten());
            }
        }
        Ok(())
    }

    /// Bytes of an object with all that is in it.
    pub(super) fn bytes(&mut self, object: u32) -> Result<u64, String> {
        let sizes = &self.contents.sizes;
        let mut sum = 0_u64;
        self.visit(&[object], |object| {
            sum = sum.saturating_add(sizes[object as usize]);
            true
        })?;
        Ok(sum)
    }
}

/// Objects that the same runs read: one object of the simulation, as no run tells them apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shared {
    pub(super) bytes: u64,
    /// At least half of the runs read it: tools rather than sources.
    pub(super) is_common: bool,
}

/// In no group yet.
const NONE: u32 = u32::MAX;

/// Refines a partition of the objects: each run splits the groups of which it reads only a part.
pub(super) struct Grouping {
    group_of: Vec<u32>,
    groups: Vec<Group>,
    /// For each run its groups, and how many groups there were then.
    reads: Vec<(Vec<u32>, u32)>,
}

#[derive(Default)]
struct Group {
    members: u32,
    /// Groups of what was in this one. Who read this one before they were split off reads them too.
    parts: Vec<u32>,
}

impl Grouping {
    pub(super) fn new(objects: usize) -> Self {
        Self { group_of: vec![NONE; objects], groups: Vec::new(), reads: Vec::new() }
    }

    /// The next run reads these, each named once.
    pub(super) fn add(&mut self, objects: &[u32]) {
        let mut touched: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for &object in objects {
            touched.entry(self.group_of[object as usize]).or_default().push(object);
        }
        let mut reads = Vec::with_capacity(touched.len());
        for (group, part) in touched {
            let whole =
                self.groups.get(group as usize).is_some_and(|g| g.members as usize == part.len());
            reads.push(if whole { group } else { self.split(group, &part) });
        }
        self.reads.push((reads, self.groups.len() as u32));
    }

    /// Makes a group of a part of another, or of what is in none.
    fn split(&mut self, group: u32, part: &[u32]) -> u32 {
        let new = self.groups.len() as u32;
        let members = part.len() as u32;
        if let Some(group) = self.groups.get_mut(group as usize) {
            group.members -= members;
            group.parts.push(new);
        }
        self.groups.push(Group { members, parts: Vec::new() });
        for object in part {
            self.group_of[*object as usize] = new;
        }
        new
    }

    /// Tells each run its groups.
    pub(super) fn finish(self, contents: &Contents, runs: &mut [Run]) -> Vec<Shared> {
        let half = runs.len().div_ceil(2).max(2);
        let mut bytes = vec![0_u64; self.groups.len()];
        for (group, size) in self.group_of.iter().zip(&contents.sizes) {
            if let Some(sum) = bytes.get_mut(*group as usize) {
                *sum = sum.saturating_add(*size);
            }
        }
        let mut readers = vec![0_usize; self.groups.len()];
        for (run, (groups, known)) in runs.iter_mut().zip(&self.reads) {
            let mut open = groups.clone();
            while let Some(group) = open.pop() {
                run.reads.push(group);
                readers[group as usize] += 1;
                let parts = &self.groups[group as usize].parts;
                open.extend(&parts[parts.partition_point(|part| part < known)..]);
            }
            run.reads.sort_unstable();
        }
        let shared = bytes.into_iter().zip(readers);
        shared.map(|(bytes, readers)| Shared { bytes, is_common: readers >= half }).collect()
    }
}
