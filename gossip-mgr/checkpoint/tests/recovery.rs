//! What is lost up to the strength of the code is rebuilt as it was, and nothing is rebuilt from what is damaged.

mod common;

use common::{Cluster, content, id, is_as_written, job, node};
use gossip_checkpoint::files::faulty::Memory;
use gossip_checkpoint::id::Object;
use gossip_checkpoint::recovery::{candidates, survives};
use gossip_checkpoint::store::Store;
use gossip_checkpoint::transfer;
use proptest::prelude::*;

/// Rebuilds all pieces on nodes of their own and looks at them.
fn restarts_as_written(cluster: &Cluster, number: u32) -> bool {
    let held = cluster.held();
    let Some(candidate) = candidates(&held).into_iter().find(|candidate| candidate.id == id(number)) else {
        return false;
    };
    for (manifest, source) in &candidate.pieces {
        let store = Store::new(Memory::default(), "/new");
        transfer::restore(&store, cluster, &job(), manifest, source).unwrap();
        assert!(is_as_written(&store, manifest.rank, number));
        store.verify(&job(), id(number), Object::Piece { rank: manifest.rank }).unwrap();
    }
    true
}

#[test]
fn any_nodes_up_to_the_parities_may_be_lost_and_not_one_more() {
    for (nodes, parities) in [(2, 1), (3, 1), (3, 2), (4, 2), (5, 1), (5, 3), (6, 2)] {
        let mut cluster = Cluster::new(nodes);
        cluster.checkpoint(1, parities);
        let held = cluster.held();
        for lost in 0_u32..1 << nodes {
            let names: Vec<_> = (0..nodes).map(node).collect();
            let gone = (0..nodes).filter(|at| lost >> at & 1 == 1).map(|at| &names[at]).collect();
            let promised = lost.count_ones() as usize <= parities;
            assert_eq!(survives(&held, id(1), &gone), promised, "{nodes} nodes, {parities} parities, lost {lost:b}");
            for at in 0..nodes {
                cluster.down[at] = lost >> at & 1 == 1;
            }
            assert_eq!(restarts_as_written(&cluster, 1), promised);
        }
    }
}

#[test]
fn an_xor_group_of_ten_loses_any_one() {
    let mut cluster = Cluster::new(10);
    cluster.checkpoint(1, 1);
    for lost in 0..10 {
        cluster.down = (0..10).map(|at| at == lost).collect();
        assert!(restarts_as_written(&cluster, 1));
    }
}

/// All stored files of a node.
fn files(store: &Store<Memory>) -> Vec<(std::path::PathBuf, usize)> {
    store.files().files().into_iter().filter(|&(_, length)| length > 0).collect()
}

#[test]
fn any_flipped_bit_of_any_object_is_seen_and_made_good() {
    let cluster = Cluster::new(3);
    cluster.checkpoint(1, 1);
    for (path, length) in files(&cluster.stores[1]) {
        // Every byte of the short ends and labels, some of the rest.
        for bit in (0..8 * length).step_by(if length < 2_500 { 61 } else { 409 }) {
            cluster.stores[1].files().flip(&path, bit);
            let damaged = cluster.stores[1].objects(&job(), id(1)).unwrap().into_iter();
            let damaged = damaged.filter(|&object| cluster.stores[1].verify(&job(), id(1), object).is_err());
            assert_eq!(damaged.count(), 1, "bit {bit} of {}", path.display());
            assert!(restarts_as_written(&cluster, 1));
            cluster.stores[1].files().flip(&path, bit);
        }
    }
}

#[test]
fn what_is_damaged_after_it_was_verified_does_not_become_a_piece() {
    let cluster = Cluster::new(3);
    let manifests = cluster.checkpoint(1, 1);
    let mut held = cluster.held();
    held.retain(|held| held.object != Object::Piece { rank: 0 });
    let candidate = candidates(&held).remove(0);
    let file = cluster.stores[2].piece_folder(&job(), id(1), 2).join("a");
    cluster.stores[2].files().flip(&file, 77);
    let store = Store::new(Memory::default(), "/new");
    let error = transfer::restore(&store, &cluster, &job(), &manifests[0], &candidate.pieces[0].1).unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
    assert_eq!(store.objects(&job(), id(1)).unwrap(), []);
}

#[test]
fn parity_that_is_made_anew_beside_a_damaged_piece_can_still_make_that_good() {
    let cluster = Cluster::new(4);
    let manifests = cluster.checkpoint(1, 1);
    cluster.stores[1].files().flip(&cluster.stores[1].piece_folder(&job(), id(1), 1).join("a"), 77);
    // What a restart does in the background.
    cluster.protect(&manifests, 1);
    assert!(restarts_as_written(&cluster, 1));
}

#[test]
fn parity_of_a_damaged_piece_is_none_and_is_said_to_be_none() {
    let cluster = Cluster::new(4);
    let manifests = cluster.pieces(1);
    cluster.stores[1].files().flip(&cluster.stores[1].piece_folder(&job(), id(1), 1).join("a"), 77);
    for (member, made) in cluster.protect(&manifests, 1).into_iter().enumerate() {
        let has_any = cluster.held().iter().any(|held| {
            held.keeper == gossip_checkpoint::recovery::Keeper::Node(node(member))
                && matches!(held.object, Object::Parity { .. })
        });
        // That of the member itself does not have its own piece in it.
        assert_eq!((made.is_ok(), has_any), (member == 1, member == 1), "member {member}");
    }
}

/// After a restart elsewhere the node that copied a rank's piece to shared storage before may still do so.
#[test]
fn two_that_write_one_object_at_once_leave_a_whole_one() {
    let dir = tempfile::tempdir().unwrap();
    let [one, other] = [(); 2].map(|()| Store::new(gossip_checkpoint::files::Disk, dir.path()));
    let manifest = Cluster::new(2).pieces(1).remove(0);
    let (object, label) = (Object::Copy { rank: 0 }, gossip_checkpoint::manifest::Label::Copy(manifest));
    let whole = content(0, 1).concat();
    let write = |store: &Store<_>, between: &dyn Fn()| {
        let mut parts = whole.chunks(1_000);
        store.write(&job(), id(1), object, &label, || {
            between();
            Ok(parts.next().unwrap_or_default().to_vec())
        })
    };
    write(&one, &|| write(&other, &|| {}).unwrap()).unwrap();
    one.verify(&job(), id(1), object).unwrap();
    assert_eq!(one.read(&job(), id(1), object, 0, 1 << 20).unwrap(), whole);
}

#[test]
fn pieces_of_two_attempts_are_no_checkpoint() {
    let cluster = Cluster::new(2);
    cluster.checkpoint(1, 1);
    let mut held = cluster.held();
    held.retain(|held| matches!(held.object, Object::Piece { .. }));
    held[1].id.nonce += 1;
    assert!(candidates(&held).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Nodes die, bits flip, objects are cut short: a checkpoint either restarts as it was written, or not at all; and it
    /// does restart if no more nodes than there are parities lost something.
    #[test]
    fn it_restarts_as_written_or_not_at_all(
        nodes in 3_usize..7,
        parities in 1_usize..3,
        faults in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u32>()), 0..5),
    ) {
        let mut cluster = Cluster::new(nodes);
        cluster.checkpoint(1, parities);
        cluster.checkpoint(2, parities);
        let mut hit = std::collections::BTreeSet::new();
        for (at, kind, place) in faults {
            let at = at as usize % nodes;
            hit.insert(at);
            if kind % 3 == 0 {
                cluster.down[at] = true;
                continue;
            }
            let store = &cluster.stores[at];
            let all = files(store);
            let (path, length) = &all[place as usize % all.len()];
            store.files().flip(path, place as usize / 7 % (8 * length));
        }
        let restarted = [1, 2].map(|number| restarts_as_written(&cluster, number));
        if hit.len() <= parities {
            prop_assert_eq!(restarted, [true, true]);
        }
    }
}

#[test]
fn a_partner_has_the_copy_and_shared_storage_the_last_word() {
    let cluster = Cluster::new(3);
    let manifests = cluster.checkpoint(1, 1);
    let from = gossip_checkpoint::recovery::Place {
        keeper: gossip_checkpoint::recovery::Keeper::Node(node(0)),
        object: Object::Piece { rank: 0 },
    };
    transfer::copy(&cluster.stores[2], &cluster, &job(), &manifests[0], &from).unwrap();
    let whole = content(0, 1).concat();
    assert_eq!(cluster.stores[2].read(&job(), id(1), Object::Copy { rank: 0 }, 0, 1 << 20).unwrap(), whole);
    // A copy of what is not what it was is none.
    cluster.stores[0].files().flip(&cluster.stores[0].piece_folder(&job(), id(1), 0).join("a"), 5);
    assert!(transfer::copy(&cluster.stores[1], &cluster, &job(), &manifests[0], &from).is_err());
    assert!(!cluster.stores[1].objects(&job(), id(1)).unwrap().contains(&Object::Copy { rank: 0 }));
}
