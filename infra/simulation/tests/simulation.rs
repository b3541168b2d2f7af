//! Short runs of the simulation.

use simulation::{Plan, Run, run};

fn holds(run: &Run) {
    let first = run.violations.first();
    assert!(
        run.violations.is_empty(),
        "seed {} ({}): {}\n{}",
        run.seed,
        run.setting,
        first.map(ToString::to_string).unwrap_or_default(),
        first.map(|violation| run.story(violation)).unwrap_or_default(),
    );
}

#[test]
fn on_calm_days_every_write_succeeds() {
    for seed in 0..4 {
        let run = run(seed, &Plan::calm(20, 2));
        holds(&run);
        assert_eq!(run.counts.get("writes succeeded"), Some(&20), "{:?}", run.counts);
    }
}

#[test]
fn whatever_aws_may_do_no_promise_is_broken() {
    for seed in 0..6 {
        holds(&run(seed, &Plan::full(40, 14)));
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let plan = Plan::full(30, 12);
    let (first, second) = (run(7, &plan), run(7, &plan));
    assert_eq!(first.trace(), second.trace());
    assert_ne!(first.trace(), run(8, &plan).trace());
}
