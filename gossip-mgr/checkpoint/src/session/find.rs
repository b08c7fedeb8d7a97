//! Finding what to restart from.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Offer, Session, Trouble, collect, share};
use crate::agent::wire::{AllHeldAnswer, Answer, Ask};
use crate::comm::Comm;
use crate::id::{CheckpointId, Level};
use crate::manifest::Manifest;
use crate::recovery::{Candidate, Held, Kept, Source, candidates, survives};

/// Clocks that are further apart make the ages that people are told wrong.
const CLOCKS_APART: f64 = 5.0;

/// What rank 0 found.
#[derive(Serialize, Deserialize)]
struct Found {
    attempt: u32,
    /// The highest number so far, so that no name is used twice.
    number: u32,
    restart: Option<Restart>,
    notes: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Restart {
    /// The checkpoint and those that it refers to, with the source of each rank's piece.
    pieces: Vec<(CheckpointId, Vec<(Manifest, Source)>)>,
    history: Vec<(CheckpointId, Level, bool, Vec<CheckpointId>)>,
    /// How much older than what is restarted from the newest complete checkpoint of each level is, in seconds.
    older_s: [Option<f64>; 5],
    lost_a_node: bool,
    /// Whether something of it is lost or elsewhere, so that its level is to be made anew.
    is_worn: bool,
}

impl<C: Comm> Session<C> {
    /// Finds the newest checkpoint that can be restarted from and brings each rank's piece to its node.
    pub(super) fn find(&mut self) -> Result<(), Trouble> {
        self.offer = None;
        loop {
            let found = (self.comm.rank() == 0).then(|| self.look());
            let found: Found = share::<Result<Found, Trouble>>(&self.comm, found.as_ref())?;
            self.attempt = self.attempt.max(found.attempt);
            self.number = self.number.max(found.number);
            self.notes.extend(found.notes);
            let Some(restart) = found.restart else { return Ok(()) };
            if self.bring(&restart) {
                self.take(restart);
                return Ok(());
            }
        }
    }

    /// Rank 0 looks at what all nodes have.
    fn look(&mut self) -> Result<Found, Trouble> {
        let none = |why: std::io::Error| Trouble::NoAgent {
            rank: 0,
            socket: self.options.socket.clone(),
            why: why.to_string(),
        };
        let mut all = self.agent.all_held(&self.job, None).map_err(none)?;
        let latest = all.held.iter().map(|held| held.id).max();
        let is_first_look = self.excluded.is_empty() && self.history.is_empty() && self.number == 0;
        let attempt = match latest {
            Some(id) if is_first_look => id.attempt + 1,
            _ => self.attempt,
        };
        let number = all.held.iter().map(|held| held.id.number).max().unwrap_or(0);
        let mut notes = clock_notes(&all);
        let mut chosen = None;
        loop {
            all.held.retain(|held| !self.excluded.contains(&held.id));
            let Some(candidate) = candidates(&all.held).into_iter().next() else { break };
            self.is_ours(candidate.manifest())?;
            let mut ids = vec![candidate.id];
            ids.extend(&candidate.manifest().needs);
            for &id in &ids {
                let none = |why: std::io::Error| Trouble::NoAgent {
                    rank: 0,
                    socket: self.options.socket.clone(),
                    why: why.to_string(),
                };
                let verified = self.agent.all_held(&self.job, Some(id)).map_err(none)?;
                all.held.retain(|held| held.id != id);
                all.held.extend(verified.held.into_iter().filter(|held| held.id == id));
                all.silent = verified.silent;
                all.damaged.extend(verified.damaged);
            }
            let now = candidates(&all.held);
            if now.first().map(|candidate| candidate.id) == Some(candidate.id) {
                chosen = Some(now);
                break;
            }
        }
        all.damaged.sort_unstable();
        all.damaged.dedup();
        notes.extend(all.damaged.iter().map(|damaged| format!("not used: {damaged}")));
        if let (None, Some(latest)) = (&chosen, latest) {
            let silent: Vec<&str> = all.silent.iter().map(|(node, _)| node.as_str()).collect();
            let away =
                if silent.is_empty() { "all nodes answer".into() } else { format!("away: {}", silent.join(", ")) };
            notes.push(format!(
                "job {}: more is lost than the levels promise to survive; of checkpoint {} and those before it too little is \
                 left ({away}). It starts over",
                self.options.job, latest.number
            ));
        }
        let restart = chosen.map(|chosen| self.restart(&chosen, &all));
        Ok(Found { attempt, number, restart, notes })
    }

    fn is_ours(&self, manifest: &Manifest) -> Result<(), Trouble> {
        let (job, now) = (self.options.job.to_string(), self.comm.size());
        if manifest.program != self.options.program {
            let (then, now) = (manifest.program.clone(), self.options.program.clone());
            return Err(Trouble::Program { job, then, now });
        }
        if manifest.ranks != now {
            return Err(Trouble::Ranks { job, then: manifest.ranks, now });
        }
        Ok(())
    }

    fn restart(&self, chosen: &[Candidate], all: &AllHeldAnswer) -> Restart {
        let first = &chosen[0];
        let with = |id: CheckpointId| chosen.iter().find(|candidate| candidate.id == id);
        let ids = std::iter::once(first.id).chain(first.manifest().needs.iter().copied());
        let pieces = ids.filter_map(with).map(|candidate| (candidate.id, candidate.pieces.clone())).collect();
        let at_home = |(rank, (_, source)): (usize, &(Manifest, Source))| {
            let home = &self.welcome.hosts[self.of_rank[rank]].name;
            matches!(source, Source::Whole(places) if places[0].keeper == crate::recovery::Keeper::Node(home.clone()))
        };
        let is_worn =
            !first.pieces.iter().enumerate().all(at_home) || !all.silent.is_empty() || !all.damaged.is_empty();
        let kept = |candidate: &Candidate| {
            let manifest = candidate.manifest();
            let complete = match manifest.level {
                Level::Local => true,
                _ => self.survives_any_node(&all.held, candidate.id),
            };
            (candidate.id, manifest.level, complete, manifest.needs.clone())
        };
        let history: Vec<_> = chosen.iter().rev().map(kept).collect();
        let mut older_s = [None; 5];
        for candidate in chosen.iter().filter(|c| history.iter().any(|(id, _, complete, _)| *id == c.id && *complete)) {
            // The newest come first.
            let older = first.manifest().written_at.saturating_sub(candidate.manifest().written_at) as f64;
            older_s[candidate.manifest().level.index()].get_or_insert(older);
        }
        Restart { pieces, history, older_s, is_worn, lost_a_node: !all.silent.is_empty() }
    }

    fn survives_any_node(&self, held: &[Held], id: CheckpointId) -> bool {
        self.welcome.hosts.iter().all(|host| survives(held, id, &BTreeSet::from([&host.name])))
    }

    /// Brings this rank's piece to its node; whether all ranks have theirs. If not, the checkpoint is not tried again.
    fn bring(&mut self, restart: &Restart) -> bool {
        let rank = self.comm.rank() as usize;
        let mut why = String::new();
        for (_, pieces) in &restart.pieces {
            let (manifest, source) = pieces[rank].clone();
            let job = self.job.clone();
            match self.agent.ask(&Ask::Restore { job, manifest, source }) {
                Ok(Answer::Done) => {}
                Ok(_) => why = "the agent answers something else".into(),
                Err(error) => why = error.to_string(),
            }
        }
        let all: Vec<String> = collect(&self.comm, &why);
        let failed = all.iter().enumerate().find(|(_, why)| !why.is_empty());
        if let Some((rank, why)) = failed {
            let (id, pieces) = &restart.pieces[0];
            self.notes.push(format!("{} could not be restored for rank {rank}: {why}", pieces[0].0.name));
            self.excluded.insert(*id);
        }
        failed.is_none()
    }

    fn take(&mut self, restart: Restart) {
        let manifests = |pieces: &[(Manifest, Source)]| pieces.iter().map(|(manifest, _)| manifest.clone()).collect();
        let mut pieces = restart.pieces.iter().map(|(id, pieces)| (*id, manifests(pieces)));
        let own: Vec<Manifest> = pieces.next().map(|(_, own)| own).unwrap_or_default();
        let needed = pieces.collect();
        let kept = |(id, level, is_complete, needs)| Kept { id, level, is_complete, needs };
        self.history = restart.history.into_iter().map(kept).collect();
        let now = self.elapsed_s();
        self.begun = restart.older_s.map(|older| older.map(|older| now - older));
        self.lost_a_node = restart.lost_a_node;
        if restart.is_worn && own[0].level != Level::Local {
            // Its level is made anew for the nodes that there are now.
            let id = own[0].id;
            for kept in self.history.iter_mut().filter(|kept| kept.id == id) {
                kept.is_complete = false;
            }
            self.protect(&own);
        }
        self.offer = Some(Offer { manifests: own, needed });
    }

    /// The checkpoint that was restarted from, and the folders with this rank's piece of it and of those it refers to.
    pub fn pieces(&self) -> Vec<(CheckpointId, std::path::PathBuf)> {
        let Some(offer) = self.offer.as_ref().or(self.restored.as_ref()) else { return Vec::new() };
        let ids = std::iter::once(offer.manifests[0].id).chain(offer.needed.iter().map(|(id, _)| *id));
        ids.map(|id| (id, self.folder(id))).collect()
    }
}

fn clock_notes(all: &AllHeldAnswer) -> Vec<String> {
    let worst = all.clocks.iter().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()));
    let apart = worst.filter(|(_, ahead)| ahead.abs() > CLOCKS_APART);
    let note = apart.map(|(node, ahead)| {
        let how = if *ahead > 0.0 { "ahead of" } else { "behind" };
        format!(
            "the clock of {node} is {:.0} s {how} this node's: set it (chrony, ntpd). The ages that `gossip-mgr jobs` shows are \
             wrong until then; which checkpoint is the newest does not depend on clocks",
            ahead.abs()
        )
    });
    note.into_iter().collect()
}
