//! Real daemons on a network that is partitioned, loses datagrams and replays them, through a proxy in
//! this process; and with a clock that jumps.

mod common;

use std::process::Command;

use common::proxy::Proxy;
use common::{BINARY, Cluster, PERIOD, alive, incarnation_of, state_of, wait_for};
use gossip_mgr::view::Status;

fn behind(proxy: &Proxy) -> Cluster {
    let mut cluster = Cluster::at(proxy.places(), PERIOD, "");
    for i in 0..cluster.addrs.len() {
        cluster.start(i);
        // What is sent to a daemon that does not listen yet is lost, though the proxy has recorded it.
        cluster.wait(i, "an answer", |_| true);
    }
    cluster
}

#[test]
fn a_partition_is_noticed_on_both_sides_and_heals() {
    let proxy = Proxy::new(6);
    let cluster = behind(&proxy);
    for i in 0..6 {
        cluster.wait_alive(i, 6);
    }
    proxy.partition(&[0, 0, 1, 1, 1, 1]);
    for i in 0..6 {
        cluster.wait_alive(i, if i < 2 { 2 } else { 4 });
    }
    proxy.partition(&[0; 6]);
    for i in 0..6 {
        cluster.wait_alive(i, 6);
    }
}

#[test]
fn nodes_find_each_other_and_notice_death_although_datagrams_are_lost() {
    let proxy = Proxy::new(8);
    proxy.lose(0.15);
    let mut cluster = behind(&proxy);
    for i in 0..8 {
        cluster.wait(i, "all on the board", |s| alive(s) == 8 && s.nodes.iter().all(|n| n.report.is_some()));
    }
    cluster.kill(5);
    let dead = cluster.addrs[5];
    for i in [0, 7] {
        cluster.wait(i, "death of node 5", |s| state_of(s, dead) == Some("dead"));
    }
    assert!(proxy.lost() > 100, "{} lost: the test must try", proxy.lost());
}

#[test]
fn replayed_datagrams_are_counted_and_raise_nobody_from_the_dead() {
    let proxy = Proxy::new(3);
    let mut cluster = behind(&proxy);
    for i in 0..3 {
        cluster.wait_alive(i, 3);
    }
    let heard = |s: &Status| s.counters.received > 50;
    let before = cluster.wait(0, "some traffic", heard);
    assert_eq!(before.counters.replayed, 0);
    let replay = |cluster: &Cluster| {
        // Few at a time, so that none gets lost in a full buffer of the receiver.
        for some in proxy.recorded(2, 0).chunks(16) {
            let so_far = cluster.wait(0, "status", |_| true).counters.replayed;
            some.iter().for_each(|datagram| proxy.inject(0, datagram));
            cluster.wait(0, "every replay counted", |s| s.counters.replayed == so_far + some.len() as u64);
        }
    };
    replay(&cluster);

    cluster.kill(2);
    let dead = cluster.addrs[2];
    let gone = |s: &Status| state_of(s, dead) == Some("dead");
    cluster.wait(0, "death of node 2", gone);
    replay(&cluster);
    let after = cluster.wait(0, "status", |_| true);
    assert!(gone(&after), "{after:?}");
}

#[test]
fn a_partition_that_lasts_until_all_is_forgotten_heals_through_the_seeds() {
    let proxy = Proxy::new(4);
    let mut cluster = Cluster::at(proxy.places(), "period_ms = 200\nforget = 20", "");
    (0..4).for_each(|i| cluster.start(i));
    for i in 0..4 {
        cluster.wait_alive(i, 4);
    }
    proxy.partition(&[0, 0, 1, 1]);
    for i in 0..4 {
        cluster.wait(i, "only two known", |s| s.nodes.len() == 2 && alive(s) == 2);
    }
    proxy.partition(&[0; 4]);
    for i in 0..4 {
        cluster.wait_alive(i, 4);
    }
}

#[test]
fn a_clock_that_jumps_kills_nobody_and_a_restart_with_a_clock_set_back_is_a_new_life() {
    let places = common::free_addrs(4).into_iter().map(|addr| common::Place { listen: addr, advertise: addr });
    // Windows long enough that no load of this machine gives anybody up.
    let mut cluster = Cluster::at(places.collect(), "period_ms = 2000", "");
    let (library, offset) = (cluster.library("jumping_clock.c"), cluster.path("offset"));
    std::fs::write(&offset, "0").unwrap();
    let file = offset.clone();
    cluster.wrapper = Box::new(move |i| {
        let mut command = Command::new(BINARY);
        if i == 1 {
            command.env("LD_PRELOAD", &library).env("CLOCK_OFFSET_FILE", &file);
        }
        command
    });
    (0..4).for_each(|i| cluster.start(i));
    for i in 0..4 {
        cluster.wait_alive(i, 4);
    }
    let jumps: [i64; 3] = [7_200, -7_200, 100_000_000];
    for jump in jumps {
        let before = cluster.wait(1, "status", |_| true);
        std::fs::write(&offset, jump.to_string()).unwrap();
        // Half a minute of traffic.
        let later = |s: &Status| s.counters.received > before.counters.received + 150;
        let after = cluster.wait(1, "traffic", later);
        let passed = after.uptime_s - before.uptime_s;
        assert!((0.0..1_000.0).contains(&passed), "a jump of {jump} s passed for {passed} s");
        // Reports' ages are of the monotonic clock, too, on both sides.
        for i in [0, 1] {
            let status = cluster.wait(i, "status", |s| s.nodes.iter().all(|n| n.report.is_some()));
            let oldest = status.nodes.iter().filter_map(|n| n.age_s).fold(0.0, f64::max);
            assert!(oldest < 1_000.0, "after a jump of {jump} s a report is {oldest} s old");
        }
    }
    for i in 0..4 {
        // Nobody was given up in between, not even for a moment.
        let log = std::fs::read_to_string(cluster.log(i)).unwrap();
        for event in ["declared dead", "node gone", "took this node for dead"] {
            assert!(!log.contains(event), "{log}");
        }
        cluster.wait_alive(i, 4);
    }
    let jumper = cluster.addrs[1];
    let life = |i: usize| incarnation_of(&cluster.wait(i, "status", |_| true), jumper).unwrap();
    let first = life(0);
    // Born while the clock was right, so the next life begins two years later than it is.
    cluster.kill(1);
    cluster.start(1);
    cluster.wait(0, "a life in the future", |s| {
        alive(s) == 4 && incarnation_of(s, jumper) > Some(first + 90_000_000_000_000)
    });
    std::fs::write(&offset, "0").unwrap();
    let future = incarnation_of(&cluster.wait(0, "status", |_| true), jumper);
    cluster.kill(1);
    cluster.start(1);
    cluster.wait(0, "a life after the one in the future", |s| alive(s) == 4 && incarnation_of(s, jumper) > future);
}

#[test]
fn colonies_have_boards_of_their_own_and_masters_have_all() {
    let more = "colony = 4\nmasters = 2\n";
    let mut cluster = Cluster::new(12, more);
    let reports = |s: &Status| s.nodes.iter().filter(|n| n.report.is_some()).count();
    for i in [0, 1] {
        cluster.wait(i, "a master with all boards", |s| alive(s) == 12 && reports(s) == 12);
    }
    for i in [3, 4, 8, 11] {
        let status = cluster.wait(i, "the colony's board", |s| alive(s) == 12 && reports(s) == 4);
        assert_eq!((status.colony, &status.masters[..]), (4, &cluster.addrs[..2]));
    }
    // A death in another colony, noticed there, is known here.
    cluster.kill(10);
    let dead = cluster.addrs[10];
    for i in [0, 5] {
        cluster.wait(i, "death of node 10", |s| state_of(s, dead) == Some("dead"));
    }
}

#[test]
fn seeds_that_do_not_answer_are_named() {
    let places = common::free_addrs(2).into_iter().map(|addr| common::Place { listen: addr, advertise: addr });
    let mut cluster = Cluster::at(places.collect(), PERIOD, "");
    cluster.start(0);
    let status = cluster.wait(0, "status", |_| true);
    assert_eq!(status.unanswered_seeds, [cluster.addrs[1]]);
    let text = String::from_utf8(cluster.ask(0, &["status"]).stdout).unwrap();
    assert!(text.contains("no seed has answered"), "{text}");
    wait_for("a warning in the log", || {
        let log = std::fs::read_to_string(cluster.log(0)).unwrap();
        log.contains("no seed has answered").then_some(())
    });
    cluster.start(1);
    let joined = cluster.wait_alive(0, 2);
    assert_eq!(joined.unanswered_seeds, []);
}
