//! A crash or a full disk at any moment: each object is complete or absent, and what was there before is untouched.

mod common;

use common::{Cluster, content, id, is_as_written, job, write_piece};
use gossip_checkpoint::files::{Files, faulty::Memory};
use gossip_checkpoint::id::Object;
use gossip_checkpoint::recovery::{Keeper, Place};
use gossip_checkpoint::store::Store;
use gossip_checkpoint::transfer;

const PIECE: Object = Object::Piece { rank: 0 };

/// Crashes `work` at each of its operations, with both fates of what was not synced, and looks at what is left.
fn crash_everywhere(prepare: impl Fn() -> Cluster, work: impl Fn(&Cluster), look: impl Fn(&Cluster)) {
    let cluster = prepare();
    let before = cluster.stores[0].files().operations();
    work(&cluster);
    let steps = cluster.stores[0].files().operations() - before;
    assert!(steps > 5, "the work was not done on this node");
    for step in 0..=steps {
        for (names, contents) in [(false, false), (false, true), (true, false), (true, true)] {
            let cluster = prepare();
            cluster.stores[0].files().crash_in(step);
            work(&cluster);
            cluster.stores[0].files().reboot(names, contents);
            look(&cluster);
        }
    }
}

fn written() -> Cluster {
    let cluster = Cluster::new(2);
    write_piece(&cluster.stores[0], 0, 2, 1).unwrap();
    write_piece(&cluster.stores[1], 1, 2, 1).unwrap();
    cluster
}

fn first_is_whole(cluster: &Cluster) {
    cluster.stores[0].verify(&job(), id(1), PIECE).unwrap();
    assert!(is_as_written(&cluster.stores[0], 0, 1));
}

#[test]
fn a_piece_is_complete_or_absent_wherever_the_machine_crashes() {
    let begun = |cluster: &Cluster| drop(write_piece(&cluster.stores[0], 0, 2, 2));
    crash_everywhere(written, begun, |cluster| {
        first_is_whole(cluster);
        if cluster.stores[0].verify(&job(), id(2), PIECE).is_ok() {
            assert!(is_as_written(&cluster.stores[0], 0, 2));
        }
    });
}

#[test]
fn a_finished_piece_survives_any_crash() {
    let cluster = written();
    cluster.stores[0].files().reboot(false, false);
    first_is_whole(&cluster);
}

#[test]
fn a_copy_is_complete_or_absent_wherever_the_machine_crashes() {
    let place = || Place { keeper: Keeper::Node(common::node(1)), object: Object::Piece { rank: 1 } };
    let work = |cluster: &Cluster| {
        let manifest = match cluster.stores[1].label(&job(), id(1), Object::Piece { rank: 1 }).unwrap() {
            gossip_checkpoint::manifest::Label::Piece(manifest) => manifest,
            _ => unreachable!(),
        };
        let _ = transfer::copy(&cluster.stores[0], cluster, &job(), &manifest, &place());
    };
    crash_everywhere(written, work, |cluster| {
        first_is_whole(cluster);
        let object = Object::Copy { rank: 1 };
        if cluster.stores[0].verify(&job(), id(1), object).is_ok() {
            let bytes = cluster.stores[0].read(&job(), id(1), object, 0, 1 << 20).unwrap();
            assert_eq!(bytes, content(1, 1).concat());
        }
    });
}

#[test]
fn a_crash_while_one_is_removed_leaves_the_other() {
    let prepare = || {
        let cluster = written();
        write_piece(&cluster.stores[0], 0, 2, 2).unwrap();
        cluster
    };
    let work = |cluster: &Cluster| drop(cluster.stores[0].remove(&job(), id(2)));
    let cluster = prepare();
    work(&cluster);
    assert_eq!(cluster.stores[0].checkpoints(&job()).unwrap(), [id(1)]);
    for step in 0..3 {
        for fate in [(false, false), (true, false), (true, true)] {
            let cluster = prepare();
            cluster.stores[0].files().crash_in(step);
            work(&cluster);
            cluster.stores[0].files().reboot(fate.0, fate.1);
            first_is_whole(&cluster);
            if cluster.stores[0].verify(&job(), id(2), PIECE).is_ok() {
                assert!(is_as_written(&cluster.stores[0], 0, 2));
            }
        }
    }
}

#[test]
fn a_full_disk_loses_nothing_older_and_the_next_one_succeeds() {
    let [first, second] = content(0, 2);
    let needed = first.len() + second.len();
    for room in (0..needed + 600).step_by(97) {
        let cluster = written();
        cluster.stores[0].files().leave_room(room);
        let done = write_piece(&cluster.stores[0], 0, 2, 2);
        assert!(done.is_err() || room > needed);
        first_is_whole(&cluster);
        assert_eq!(cluster.stores[0].verify(&job(), id(2), PIECE).is_ok(), done.is_ok());
        cluster.stores[0].files().leave_room(1 << 20);
        write_piece(&cluster.stores[0], 0, 2, 2).unwrap();
        assert!(is_as_written(&cluster.stores[0], 0, 2));
    }
}

#[test]
fn another_objects_file_under_a_name_is_not_taken_for_it() {
    let store = Store::new(Memory::default(), "/store");
    write_piece(&store, 0, 2, 1).unwrap();
    write_piece(&store, 0, 2, 2).unwrap();
    let (one, two) = (store.path(&job(), id(1), PIECE), store.path(&job(), id(2), PIECE));
    store.files().rename(&one, &two).unwrap();
    let error = store.verify(&job(), id(2), PIECE).unwrap_err();
    assert!(error.to_string().contains("not that of its name"), "{error}");
}
