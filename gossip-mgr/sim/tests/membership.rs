//! Membership and failure detection of whole nodes, simulated.

use std::collections::BTreeMap;

use gossip_core::detector::Verdict;
use gossip_core::node::{Event, Settings};
use gossip_core::report::Report;
use gossip_sim::cluster::{Cluster, SECOND};
use gossip_sim::colonies::boards;
use gossip_sim::detection::{Detection, fail_stops, stalls};

fn cluster(count: usize, seed: u64) -> Cluster {
    let mut cluster = Cluster::new(Settings::default(), count, seed);
    assert!(cluster.run_until(120 * SECOND, Cluster::is_converged), "no convergence");
    cluster
}

#[test]
fn nodes_find_each_other_through_one_seed() {
    cluster(40, 1);
}

#[test]
fn nodes_find_each_other_although_packets_are_lost() {
    let mut cluster = Cluster::new(Settings::default(), 20, 2);
    cluster.loss = 0.2;
    assert!(cluster.run_until(300 * SECOND, Cluster::is_converged));
}

#[test]
fn ninety_five_percent_of_deaths_are_known_to_all_within_five_periods() {
    for nodes in [8, 32] {
        let detection = fail_stops(&Settings::default(), nodes, 40, 3);
        let all = Detection::share(&detection.last, 5.0);
        assert!(all >= 0.95, "{nodes} nodes: {all} {:?}", detection.last);
        assert!(detection.last.iter().all(|&t| t < 12.0), "{:?}", detection.last);
    }
}

#[test]
fn the_dead_are_forgotten_by_all_and_the_living_are_not() {
    let mut settings = Settings::default();
    settings.detection.forget = 30;
    let mut cluster = Cluster::new(settings, 6, 12);
    assert!(cluster.run_until(120 * SECOND, Cluster::is_converged));
    let dead = cluster.addr(2);
    cluster.kill(2);
    cluster.run(60 * SECOND);
    for host in [0, 1, 3, 4, 5] {
        assert_eq!(cluster.node(host).verdict(dead), None);
        assert_eq!(cluster.node(host).verdict(cluster.addr(usize::from(host == 0))), Some(&Verdict::Alive));
        assert_eq!(cluster.node(host).members().count(), 4);
    }
}

#[test]
fn stalls_of_up_to_three_periods_kill_nobody() {
    let result = stalls(&Settings::default(), 20, 0.5, 3.0, 4, |_, _| {});
    assert_eq!(result.false_deaths, 0, "{result:?}");
    assert!(result.stalls > 1_000 && result.suspicions > 100, "the test must try: {result:?}");
}

#[test]
fn a_node_that_was_rightly_given_up_comes_back_and_calm_returns() {
    let mut cluster = cluster(20, 10);
    let traffic = |cluster: &mut Cluster| {
        let before = cluster.sent;
        cluster.run(20 * SECOND);
        cluster.sent - before
    };
    let calm = traffic(&mut cluster);
    for host in [4, 9] {
        cluster.stall(host, 20 * SECOND);
    }
    cluster.run(15 * SECOND);
    assert_eq!(cluster.node(0).members().count(), 17);
    assert!(cluster.run_until(120 * SECOND, Cluster::is_converged));
    cluster.run(60 * SECOND);
    let after = traffic(&mut cluster);
    assert!(after < calm + calm / 5, "{after} packets after, {calm} before");
}

#[test]
fn a_restarted_node_is_a_member_again_in_its_new_life() {
    let mut cluster = cluster(8, 5);
    cluster.kill(3);
    cluster.run(SECOND);
    cluster.restart(3);
    assert!(cluster.run_until(30 * SECOND, |c| {
        c.is_converged()
            && (0..8).filter(|&h| h != 3).all(|h| c.node(h).members().any(|m| m.addr == c.addr(3) && m.incarnation > 1))
    }));
    cluster.run(20 * SECOND);
    assert!(cluster.is_converged());
}

#[test]
fn a_partition_heals() {
    let mut cluster = cluster(12, 6);
    let groups: BTreeMap<usize, u32> = (0..4).map(|host| (host, 1)).collect();
    cluster.partition(&groups);
    assert!(cluster.run_until(60 * SECOND, |c| {
        (0..4).all(|h| c.node(h).members().count() == 3) && (4..12).all(|h| c.node(h).members().count() == 7)
    }));
    cluster.partition(&BTreeMap::new());
    assert!(cluster.run_until(300 * SECOND, Cluster::is_converged));
}

#[test]
fn reports_reach_every_board() {
    let mut cluster = cluster(30, 7);
    cluster.run(10 * SECOND);
    for host in 0..30 {
        let board = cluster.node(host).board();
        assert_eq!(board.entries().count(), 30);
        for (_, entry) in board.entries() {
            assert!(cluster.now() - entry.made_at < 8 * SECOND);
            assert_eq!(entry.report, Report::default());
        }
    }
}

#[test]
fn colonies_have_boards_of_their_own_masters_have_all_and_deaths_are_known_everywhere() {
    let settings = Settings { colony: 16, ..Settings::default() };
    let (mut cluster, boards) = boards(&settings, 64, 30, 11);
    assert_eq!((boards.colonies, boards.strays), (4, 0), "{boards:?}");
    assert_eq!((boards.missing, boards.missing_at_masters), (0, 0), "{boards:?}");
    // Pushes are spread over the interval, so boards are younger than just before an exchange.
    for (measured, model) in [boards.within, boards.at_masters] {
        assert!((0.6 * model..1.05 * model).contains(&measured), "{boards:?}");
    }
    // A death in each colony, one of them of a master.
    for host in [1, 20, 40, 60] {
        cluster.kill(host);
    }
    assert!(cluster.run_until(60 * SECOND, Cluster::is_converged));
}

#[test]
fn a_dead_node_is_suspected_first_and_leaves_the_board() {
    let mut cluster = cluster(10, 8);
    let addr = cluster.addr(4);
    cluster.events.clear();
    cluster.kill(4);
    cluster.run(15 * SECOND);
    let position = |event: &Event| cluster.events.iter().position(|(_, _, e)| e == event);
    assert!(position(&Event::Suspected(addr)) < position(&Event::Died(addr)));
    assert!(matches!(cluster.node(0).verdict(addr), Some(Verdict::Dead { .. })));
    assert!(cluster.node(0).board().get(&addr).is_none());
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let history = |seed| {
        let mut cluster = Cluster::new(Settings::default(), 10, seed);
        cluster.run(20 * SECOND);
        cluster.kill(2);
        cluster.run(20 * SECOND);
        (cluster.sent, format!("{:?}", cluster.events))
    };
    assert_eq!(history(9), history(9));
    assert_ne!(history(9), history(10));
}
