use super::*;
use crate::testing::{latency, run, session};

fn check<T>(runs: &[Run], look: impl FnOnce(Sheet<'_>) -> T) -> T {
    let session = session("1");
    look(Sheet::of(&runs.iter().collect::<Vec<_>>(), &session).unwrap())
}

fn rounds(client: &str, cpu: &[f64]) -> Vec<Run> {
    (0..).zip(cpu).map(|(round, &cpu)| run("produce-real", client, round, cpu)).collect()
}

/// The same in seven rounds that count.
fn steady(client: &str, cpu: f64) -> Vec<Run> {
    rounds(client, &[cpu; 8])
}

#[test]
fn a_run_is_void_by_stolen_time_or_the_load_of_others() {
    assert_eq!(void_run(0.01, 0.4), None);
    assert!(void_run(0.06, 0.0).unwrap().contains("stolen"));
    assert!(void_run(0.0, 0.7).unwrap().contains("0.7 cores"));
}

#[test]
fn the_first_round_and_the_drivers_own_cost_do_not_count() {
    let runs = [
        rounds("ours", &[9.0, 0.4, 0.4, 0.4]),
        rounds("krafka", &[0.1, 1.7, 1.7, 1.7]),
        rounds("kacrab", &[0.1, 0.9, 0.9, 0.9]),
        rounds("control", &[0.0, 0.1, 0.1, 0.1]),
    ]
    .concat();
    check(&runs, |sheet| {
        let comparison = sheet.compare(Metric::Cpu);
        let (best, figure) = comparison.best.unwrap();
        assert_eq!(best, "kacrab");
        assert!((figure.value - 0.8).abs() < 1e-9);
        assert!((comparison.ratio.unwrap().value - 0.375).abs() < 1e-9);
        assert_eq!(sheet.own_cost(Metric::Cpu), Some(0.1));
        assert_eq!(sheet.own_cost(Metric::Throughput), None);
        assert_eq!(comparison.void, None);
        assert!(comparison.control.unwrap_err().contains("no control"));
        assert_eq!(sheet.effort(), "3 rounds of 2 s");
    });
}

#[test]
fn a_peer_at_the_floor_is_infinitely_better_than_ours_above_it() {
    let empty = steady("control", 0.1);
    let of = |ours, theirs| {
        let runs = [steady("ours", ours), steady("krafka", theirs), empty.clone()].concat();
        check(&runs, |sheet| sheet.compare(Metric::Cpu).ratio)
    };
    assert_eq!(of(0.2, 0.1).unwrap().value, f64::INFINITY);
    assert!((of(0.05, 0.2).unwrap().value + 0.5).abs() < 1e-9);
    assert!(of(0.1, 0.05).unwrap_err().contains("at or below what an empty driver takes"));
}

#[test]
fn the_noise_of_what_is_taken_off_is_in_the_interval() {
    let width = |empty: &[f64]| {
        let runs = [steady("ours", 0.4), steady("krafka", 0.9), rounds("control", empty)].concat();
        let (low, high) = check(&runs, |sheet| sheet.compare(Metric::Cpu).ratio.unwrap().interval.unwrap());
        high - low
    };
    assert!(width(&[0.1; 8]) < 1e-9);
    assert!(width(&[0.1, 0.1, 0.3, 0.1, 0.3, 0.1, 0.3, 0.1]) > 0.1);
}

#[test]
fn what_must_be_taken_off_and_is_not_known_voids() {
    let clients = [steady("ours", 0.4), steady("krafka", 0.9)].concat();
    let void = |runs: &[Run], metric| check(runs, |sheet| sheet.compare(metric).void);
    assert!(void(&clients, Metric::Cpu).unwrap().contains("what an empty driver takes was not measured"));
    assert_eq!(void(&clients, Metric::Throughput), None);
    let mut disturbed = [clients, rounds("control", &[0.1; 4])].concat();
    assert_eq!(void(&disturbed, Metric::Cpu), None);
    disturbed.last_mut().unwrap().void = Some("others used 1.0 cores".into());
    assert!(void(&disturbed, Metric::Cpu).unwrap().contains("undisturbed runs of control"));
    assert_eq!(void(&disturbed, Metric::Throughput), None);
}

#[test]
fn latency_is_of_the_rounds_pooled_and_above_the_raw_socket_of_the_same_rounds() {
    let of = |client: &str, tail: f64| -> Vec<Run> {
        (1..8)
            .map(|round| {
                let mut run = run("latency-linger-0", client, round, 1.0);
                // The tail is in two rounds of seven only: a median of their quantiles would not see it.
                let slow = if round < 3 { 50 } else { 0 };
                let histogram = [(100.0, 1000 - slow), (tail, slow)];
                let taken: Vec<_> = histogram.into_iter().filter(|&(_, count)| count > 0).collect();
                run.outcome.as_mut().unwrap().latency_us = Some(latency(&taken));
                run
            })
            .collect()
    };
    let runs = [of("ours", 400.0), of("krafka", 900.0), of("control", 200.0)].concat();
    check(&runs, |sheet| {
        assert_eq!(sheet.figure("ours", Metric::P99).unwrap().value, 400.0);
        assert_eq!(sheet.figure("ours", Metric::P99).unwrap().interval.unwrap().0, 100.0);
        assert_eq!(sheet.figure("ours", Metric::P99Above).unwrap().value, 200.0);
        let ratio = sheet.compare(Metric::P99Above).ratio.unwrap();
        assert!((ratio.value - 200.0 / 700.0).abs() < 1e-9);
        // Rounds without a tail leave nothing above the raw socket.
        assert_eq!(ratio.interval.unwrap().1, f64::INFINITY);
    });
}

#[test]
fn rounds_that_only_one_was_measured_in_do_not_count() {
    let mut ours = rounds("ours", &[1.0, 100.0, 1.0, 1.0]);
    ours.truncate(4);
    let mut theirs = rounds("krafka", &[1.0, 0.0, 2.0, 2.0, 500.0]);
    theirs.remove(1);
    let mut runs = [ours, theirs].concat();
    runs.iter_mut()
        .for_each(|run| run.outcome.as_mut().unwrap().seconds = run.outcome.as_ref().unwrap().cpu_user_s);
    check(&runs, |sheet| {
        let ratio = sheet.compare(Metric::Throughput).ratio.unwrap();
        assert_eq!(ratio, Estimate { value: 2.0, interval: None });
    });
    let apart = [rounds("ours", &[1.0, 1.0]), vec![run("produce-real", "krafka", 2, 1.0)]].concat();
    let reason = check(&apart, |sheet| sheet.compare(Metric::Throughput).ratio.unwrap_err());
    assert!(reason.contains("no round in which both ours and krafka"), "{reason}");
}

#[test]
fn the_best_at_throughput_is_the_highest() {
    let mut runs = [rounds("krafka", &[1.0]), rounds("kacrab", &[1.0])].concat();
    runs[1].outcome.as_mut().unwrap().seconds = 1.0;
    assert_eq!(check(&runs, |sheet| sheet.best_peer(Metric::Throughput).unwrap().0), "kacrab");
}

#[test]
fn disturbed_runs_are_left_out_while_enough_remain() {
    let mut runs = [rounds("ours", &[1.0, 0.5, 0.5, 0.5, 5.0]), rounds("control", &[0.0; 5])].concat();
    runs[4].void = Some("others used 1.0 cores".into());
    check(&runs, |sheet| {
        assert_eq!(sheet.figure("ours", Metric::Cpu).unwrap().value, 0.5);
        assert_eq!(sheet.compare(Metric::Cpu).void, None);
    });
    runs[3].void = runs[4].void.clone();
    let void = check(&runs, |sheet| sheet.compare(Metric::Cpu).void);
    assert!(void.unwrap().contains("undisturbed runs of ours"));
}

#[test]
fn of_a_repeated_run_the_last_repetition_counts() {
    let mut runs = [rounds("ours", &[1.0, 7.0]), rounds("control", &[0.0; 2])].concat();
    runs[1].void = Some("others used 1.0 cores".into());
    let repetition = Run { repeated: true, ..run("produce-real", "ours", 1, 0.5) };
    runs.push(Run { void: runs[1].void.clone(), ..repetition.clone() });
    check(&runs, |sheet| assert!(sheet.is_disturbed("ours")));
    runs.push(repetition);
    check(&runs, |sheet| {
        assert_eq!(sheet.figure("ours", Metric::Cpu).unwrap().value, 0.5);
        assert!(!sheet.is_disturbed("ours"));
    });
}

#[test]
fn a_client_that_failed_has_no_figures_but_a_reason() {
    let mut runs = [rounds("krafka", &[1.0, 1.0]), rounds("kacrab", &[1.0])].concat();
    runs[1].failure = Failure::of_counts("acknowledged", 7, 6);
    // Who cannot do it says so in the first round, and is not asked again.
    runs[2].failure = Some(Failure::unsupported("zstd"));
    check(&runs, |sheet| {
        assert_eq!(sheet.figure("krafka", Metric::Throughput), None);
        assert!(sheet.failure("krafka").unwrap().reason.contains("acknowledged 7"));
        assert_eq!(sheet.failure("kacrab").unwrap().kind, FailureKind::Unsupported);
        assert_eq!(sheet.clients(), ["krafka", "kacrab"]);
        assert_eq!(sheet.lost(), None);
    });
}

#[test]
fn what_ours_lost_in_whichever_round_is_known() {
    let mut runs = [steady("ours", 0.4), steady("ours-control", 0.4)].concat();
    runs[8].failure = Failure::of_counts("acknowledged", 7, 6);
    assert!(check(&runs, |sheet| sheet.lost().is_some()));
}
