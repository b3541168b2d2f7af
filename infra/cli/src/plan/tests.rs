mod one_by_one;

use ::simulation::Burst;
use clap::{CommandFactory as _, Parser};

use super::simulation::{Outcome, Work, simulate};
use super::*;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    plan: Plan,
}

/// As on the command line.
fn plan(arguments: &str) -> Plan {
    let words = arguments.split_whitespace();
    Cli::try_parse_from(std::iter::once("plan").chain(words)).unwrap().plan
}

fn outcome(arguments: &str) -> Outcome {
    simulate(&plan(arguments).scenario())
}

fn table(arguments: &str) -> String {
    let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
    plan(arguments).report().unwrap().table(now)
}

/// The rows of a table by their names, each in one line.
fn row(table: &str, name: &str) -> String {
    let mut lines = table.lines().skip_while(|line| !line.starts_with(&format!("  {name:16}")));
    let first = lines.next().unwrap_or_else(|| panic!("no row {name}: {table}"));
    let more = lines.take_while(|line| line.starts_with(&format!("  {:16}", "")));
    std::iter::once(first).chain(more).map(|line| line[18..].trim()).collect::<Vec<_>>().join(" ")
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every message has exactly one end, or still waits.
fn assert_complete(outcome: &Outcome) {
    let last = outcome.samples.last().unwrap();
    let ended = outcome.work.starts + outcome.deferred_too_long + outcome.lost;
    let all = ended + last.visible + last.delayed;
    assert!((all - outcome.work.uploads).abs() < 0.5, "{all} of {}", outcome.work.uploads);
}

/// Ten thousand messages by reference at once, for consumers that are all there from the beginning,
/// and whose calls are all that takes time.
fn all_at_once() -> Scenario {
    let mut scenario =
        plan("--burst 100000/s --burst-for 100ms --inline-content Never --memory-size 1769")
            .scenario();
    scenario.stack.processor = 0.0;
    scenario.stack.between_batches = 0.0;
    scenario.stack.first_consumers = scenario.stack.maximum_concurrency;
    scenario
}

/// The consumer itself in simulated time (`infra/simulation`), for as few messages as a test has time
/// for.
#[test]
fn a_burst_of_the_real_consumer_is_predicted_within_ten_percent() {
    let small = Burst { consumers: 2, at_once: 1_000, bucket: 130.0, refill: 30.0, ..Burst::LARGE };
    let real = small.drain(1);
    let mut scenario = all_at_once();
    scenario.burst = Some(super::Burst { rate: 10_000.0, length: 0.1 });
    scenario.quota = Quota { bucket: small.bucket, refill: small.refill };
    scenario.stack.maximum_concurrency = 2.0;
    scenario.stack.first_consumers = 2.0;
    for seed in 0..20 {
        let outcome = simulate(&Scenario { seed, ..scenario.clone() });
        assert_complete(&outcome);
        let off = |predicted: f64, real: f64| (predicted / real - 1.0).abs();
        let drained = outcome.drained.unwrap();
        assert!(off(drained, real.time.as_secs_f64()) < 0.1, "seed {seed}: {drained} s");
        let calls = outcome.calls_per_start();
        assert!(off(calls, real.calls_per_start()) < 0.1, "seed {seed}: {calls} calls");
    }
}

/// The simulation solves for what many calls do together. This makes each of them.
#[test]
fn cohorts_drain_as_messages_do_one_by_one() {
    let with = |call: f64, consumers: f64, refill: f64| {
        let mut scenario = Scenario { call, ..all_at_once() };
        scenario.stack.maximum_concurrency = consumers;
        scenario.stack.first_consumers = consumers;
        scenario.quota.refill = refill;
        scenario
    };
    for scenario in [
        with(0.02, 5.0, 300.0),
        with(0.02, 10.0, 300.0),
        with(0.02, 20.0, 300.0),
        with(0.04, 10.0, 300.0),
        with(0.06, 10.0, 300.0),
        with(0.06, 40.0, 300.0),
        with(0.02, 10.0, 150.0),
        with(0.02, 10.0, 1_000.0),
        with(0.1, 2.0, 300.0),
    ] {
        let cohorts = simulate(&scenario);
        let one_by_one = one_by_one::drain(&scenario, 10_000);
        // The last few messages of a burst decide when it is drained, and they are random.
        let is_near = |one: f64, other: f64| (one / other - 1.0).abs() < 0.2;
        let drained = cohorts.drained.unwrap();
        assert!(is_near(drained, one_by_one.drained), "{drained} {one_by_one:?} {scenario:?}");
        let Work { calls, deferrals, .. } = cohorts.work;
        assert!(is_near(calls, one_by_one.calls), "{calls} {one_by_one:?} {scenario:?}");
        if one_by_one.deferrals > 5_000.0 {
            assert!(is_near(deferrals, one_by_one.deferrals), "{deferrals} {one_by_one:?}");
        }
    }
}

#[test]
fn the_same_arguments_give_the_same_answer_and_another_seed_another() {
    let drained = |seed| simulate(&Scenario { seed, ..all_at_once() }).drained;
    assert_eq!(drained(1), drained(1));
    let different: std::collections::BTreeSet<_> =
        (0..10).map(|seed| drained(seed).map(f64::to_bits)).collect();
    assert!(different.len() > 1, "{different:?}");
}

#[test]
fn what_arrives_more_slowly_than_the_quota_does_not_wait() {
    let outcome = outcome("--arrivals 200/s");
    assert_complete(&outcome);
    assert_eq!((outcome.drained, outcome.deepest.delayed), (Some(0.0), 0.0));
    assert!(outcome.peak.age <= 0.2, "{:?}", outcome.peak);
    // Each runs for a second.
    assert!((199.0..=201.0).contains(&outcome.peak.running), "{:?}", outcome.peak);
    assert!(outcome.calls_per_start() < 1.001, "{:?}", outcome.work);
    let table = table("--arrivals 200/s");
    assert_eq!(row(&table, "drained"), "there is nothing to drain");
    assert!(row(&table, "lost").starts_with("nothing"), "{table}");
}

#[test]
fn a_burst_of_nothing_is_no_burst() {
    for burst in ["--burst 0/s --burst-for 10m", "--burst 5000/s --burst-for 0s"] {
        let with = plan(&format!("--arrivals 50/s {burst}")).scenario();
        assert!(with.burst.is_none(), "{burst}");
        assert!(matches!(plan(burst).report(), Err(Error::NothingArrives)));
    }
}

/// The bucket holds as many tokens as come.
#[test]
fn a_burst_that_fits_into_the_bucket_is_not_refused() {
    let outcome = outcome("--burst 1200/s --burst-for 1s");
    assert_complete(&outcome);
    assert_eq!((outcome.work.starts, outcome.work.deferrals), (1_200.0, 0.0));
    assert!(outcome.drained.unwrap() < 3.0, "{:?}", outcome.drained);
}

#[test]
fn a_large_burst_drains_at_the_rate_of_the_quota_at_best() {
    let outcome = outcome("--arrivals 200/s --burst 5000/s --burst-for 10m");
    assert_complete(&outcome);
    let alone = (5_000.0 * 600.0 - 1_300.0) / (300.0 - 200.0);
    let drained = outcome.drained.unwrap();
    assert!((alone..alone * 1.1).contains(&drained), "{drained} s, by the quota {alone}");
    let tokens = 1_300.0 + 300.0 * drained;
    assert!(outcome.work.starts <= tokens, "{} of {tokens}", outcome.work.starts);
    assert!((2.9e6..3.0e6).contains(&outcome.deepest.depth()), "{:?}", outcome.deepest);
    assert!(outcome.peak.in_flight <= 100.0, "{:?}", outcome.peak);
    // The bucket in the first second, and the refill of it.
    assert!((300.0..1_700.0).contains(&outcome.peak.running), "{:?}", outcome.peak);
    // So few that a day takes a moment.
    assert!(outcome.samples.len() < 50_000, "{} steps", outcome.samples.len());
}

#[test]
fn what_is_never_enough_never_drains_and_the_day_is_named_on_which_messages_are_lost() {
    let arguments = "--arrivals 400/s --burst 5000/s --burst-for 10m";
    let outcome = outcome(arguments);
    assert_complete(&outcome);
    assert_eq!(outcome.drained, None);
    assert!(outcome.lost <= 0.0 && outcome.first_lost.unwrap() > 30.0 * 86_400.0);
    // A message is deferred twice only with half a queue between.
    assert!(outcome.first_deferred_too_long.unwrap() > 72.0 * 3_600.0);
    let table = table(arguments);
    assert!(row(&table, "drained").starts_with("never: 400/s arrive, and 300 a second"), "{table}");
    assert!(row(&table, "lost").contains("on 2027-01-19"), "{table}");
    assert!(row(&table, "lost").contains("DeferredTooLong"), "{table}");
    assert!(row(&table, "quota").contains("at least 440/s"), "{table}");
    assert!(table.contains("the steady uploads are more than can be started"), "{table}");
}

/// Here SQS deletes within the time that is simulated.
#[test]
fn a_queue_that_is_hardly_read_loses_what_is_fourteen_days_old() {
    let slow = "--maximum-concurrency 2 --call 1s";
    let outcome = outcome(&format!("--arrivals 200/s --burst 1/s --burst-for 1m {slow}"));
    assert_complete(&outcome);
    assert!(outcome.lost > 0.0, "{:?}", outcome.work);
    let first = outcome.first_lost.unwrap() / 86_400.0;
    assert!((14.0..15.0).contains(&first), "after {first} days");
}

/// Step Functions does the work: a consumer does not wait for it.
#[test]
fn how_long_an_execution_runs_matters_only_for_how_many_are_open() {
    let with = |time: &str| {
        outcome(&format!("--arrivals 100/s --burst 1000/s --burst-for 1m --service-time {time}"))
    };
    let (short, long) = (with("1s"), with("10m"));
    assert_eq!(short.drained, long.drained);
    assert_eq!(short.work.calls.to_bits(), long.work.calls.to_bits());
    assert!(short.peak.running < 1_700.0, "{:?}", short.peak);
    assert!(long.peak.running > 60_000.0, "{:?}", long.peak);
}

#[test]
fn no_more_executions_are_open_than_may_be() {
    let arguments = "--arrivals 50/s --burst 300/s --burst-for 1m --service-time 10s \
                     --open-executions 600";
    let limited = outcome(arguments);
    assert_complete(&limited);
    assert!(limited.peak.running <= 600.0, "{:?}", limited.peak);
    let free = outcome(&arguments.replace("600", "1000000"));
    assert!(limited.drained > free.drained, "{:?} {:?}", limited.drained, free.drained);
    // 200 starts a second of two hours each are more than a million at any time.
    assert!(outcome("--arrivals 200/s --service-time 2h").drained.is_none());
    let table = table("--arrivals 200/s --service-time 2h");
    assert!(row(&table, "quota").contains("at least 1,600,000 open executions"), "{table}");
}

#[test]
fn no_more_executions_run_than_may() {
    let burst = "--burst 100/s --burst-for 10s --service-time 3s";
    let limited = format!("{burst} --max-running-executions 20");
    let (free, least) = (outcome(burst).drained, outcome(&limited).drained);
    // A thousand executions, twenty at a time.
    assert!(free < Some(60.0) && least > Some(150.0), "{free:?} {least:?}");
    assert!(table(&limited).contains("20 executions at most, of 20"), "{}", table(&limited));
    let error = plan(&format!("{limited} --state-machine-type EXPRESS")).report();
    assert!(error.is_err_and(|error| error.to_string().contains("has to be 0")));
}

#[test]
fn a_start_rate_keeps_the_consumers_below_the_quota() {
    let burst = "--burst 10000/s --burst-for 1s";
    let free = outcome(burst);
    let paced = outcome(&format!("{burst} --start-rate-per-second 30"));
    assert!(free.calls_per_start() > 1.01, "{:?}", free.work);
    assert!(paced.calls_per_start() < free.calls_per_start(), "{:?}", paced.work);
    assert!(paced.work.deferrals < 0.5, "{:?}", paced.work);
}

#[test]
fn few_slow_consumers_are_the_limit() {
    let arguments = "--arrivals 150/s --maximum-concurrency 2 --call 100ms";
    let outcome = outcome(&format!("{arguments} --burst 1000/s --burst-for 1m"));
    assert_eq!(outcome.drained, None);
    let table = table(&format!("{arguments} --burst 1000/s --burst-for 1m"));
    assert!(row(&table, "set").starts_with("MaximumConcurrency="), "{table}");
}

#[test]
fn the_defaults_are_as_good_as_any_for_a_burst() {
    let table = table("--arrivals 200/s --burst 5000/s --burst-for 10m");
    assert!(row(&table, "none").starts_with("these are as good as any"), "{table}");
}

#[test]
fn what_is_recommended_is_better() {
    for arguments in [
        "--burst 10000/s --burst-for 1s --region ap-northeast-2",
        "--burst 10000/s --burst-for 1s --maximum-concurrency 100",
    ] {
        let before = outcome(arguments);
        let table = table(arguments);
        let set = row(&table, "set");
        let value = |name: &str| {
            let at = set.split_whitespace().find_map(|word| word.strip_prefix(name)).unwrap();
            at.strip_prefix('=').unwrap().to_owned()
        };
        let after = outcome(&format!(
            "{} --maximum-concurrency {} --batch-size {} --start-rate-per-second {}",
            arguments.replace("--maximum-concurrency 100", ""),
            value("MaximumConcurrency"),
            value("BatchSize"),
            value("StartRatePerSecond")
        ));
        assert!(after.drained <= before.drained, "{arguments}: {table}");
        assert!(after.calls_per_start() < before.calls_per_start(), "{arguments}: {table}");
    }
}

/// <https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>
#[test]
fn the_region_and_the_type_of_the_machine_decide_the_quota() {
    let quota = |arguments: &str| {
        let Quota { bucket, refill } =
            plan(&format!("--arrivals 1/s {arguments}")).scenario().quota;
        (bucket, refill)
    };
    assert_eq!(quota(""), (1_300.0, 300.0));
    assert_eq!(quota("--region us-west-2"), (1_300.0, 300.0));
    assert_eq!(quota("--region ap-northeast-2"), (800.0, 150.0));
    assert_eq!(quota("--region ap-northeast-2 --quota 5000,2000"), (5_000.0, 2_000.0));
    assert_eq!(quota("--state-machine-type EXPRESS"), (6_000.0, 6_000.0));
    let express = plan("--arrivals 1/s --state-machine-type EXPRESS").scenario();
    assert_eq!(express.open_executions, None);
}

#[test]
fn what_arrived_is_planned_for_as_if_it_had_been_said() {
    let mut taken = plan("--from-metrics --since 24h --region ap-northeast-2");
    taken.plan_for(&measured::tests::day());
    let said = plan("--arrivals 2/s --burst 500/s --burst-for 10m --region ap-northeast-2");
    assert_eq!(format!("{:?}", taken.scenario()), format!("{:?}", said.scenario()));
    // And without a burst, whatever was on the command line.
    let mut steady = measured::tests::day();
    (steady.steady, steady.burst) = (1.0, None);
    taken.plan_for(&steady);
    assert_eq!(taken.report().unwrap().title(), "1/s uploads");
}

#[test]
fn the_settings_have_the_defaults_of_the_template() {
    let template = fs::read_to_string(root().join("template.yaml")).unwrap();
    let default = |parameter: &str| {
        let start = format!("  {parameter}:");
        let lines = template.lines().skip_while(|line| *line != start).skip(1);
        let mut of_parameter = lines.take_while(|line| line.starts_with("    "));
        let value = of_parameter.find_map(|line| line.strip_prefix("    Default: "));
        value.unwrap_or_else(|| panic!("no default of {parameter}")).to_owned()
    };
    let command = Cli::command();
    let settings = command
        .get_arguments()
        .filter(|it| it.get_help_heading() == Some("Parameters of the stack"));
    let mut compared = 0;
    for setting in settings {
        let words = setting.get_id().as_str().split('_');
        let parameter: String =
            words.flat_map(|word| [word[..1].to_uppercase(), word[1..].to_owned()]).collect();
        let [value] = setting.get_default_values() else { panic!("{parameter} has no default") };
        assert_eq!(value.to_str().unwrap(), default(&parameter), "{parameter}");
        compared += 1;
    }
    assert_eq!(compared, 13);
    let retention = format!("MessageRetentionPeriod: {:.0}", simulation::RETENTION);
    assert!(template.contains(&retention), "{retention}");
}

#[test]
fn a_bill_is_the_sum_of_what_is_done() {
    let report = plan("--arrivals 1000000/day").report().unwrap().json();
    let month = &report["month"];
    let uploads = month["uploads"].as_f64().unwrap();
    assert!((uploads / 30e6 - 1.0).abs() < 1e-3, "{month}");
    let dollars = |what: &str| month["dollars"][what].as_f64().unwrap() / 30.0;
    // A million uploads. Each has a message of its own, is received and deleted, and read.
    assert!((dollars("stepFunctions") - 75.0).abs() < 0.01, "{month}");
    assert!((dollars("s3") - 0.40).abs() < 0.01, "{month}");
    assert!((1.4..1.6).contains(&dollars("sqs")), "{month}");
    assert!((0.4..0.8).contains(&dollars("lambda")), "{month}");
    let sum = ["stepFunctions", "s3", "sqs", "lambda"].map(dollars).iter().sum::<f64>();
    assert!((month["sum"].as_f64().unwrap() / 30.0 - sum).abs() < 0.01, "{month}");
}

#[test]
fn a_table_fits_into_eighty_columns() {
    for arguments in [
        "--arrivals 200/s --burst 5000/s --burst-for 10m --service-time 1s",
        "--arrivals 400/s --burst 5000/s --burst-for 10m --region ap-northeast-2",
        "--arrivals 200/s --state-machine-type EXPRESS --quota 100000,50000",
    ] {
        let table = table(arguments);
        for line in table.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}

/// But for digits, which may differ in the last of a sum on another processor.
#[test]
fn the_document_shows_what_is_printed() {
    let document = fs::read_to_string(root().join("infra/docs/operations.md")).unwrap();
    let command = document.lines().find(|line| line.starts_with("cargo sluice plan --")).unwrap();
    let printed = table(command.strip_prefix("cargo sluice plan ").unwrap());
    let words = |text: &str| text.replace(|letter: char| letter.is_ascii_digit(), "");
    let (_, what_happens) = printed.split_once("\nwhat happens\n").unwrap();
    assert!(words(&document).contains(&words(what_happens)), "write this down: {printed}");
}

#[test]
fn the_picture_shows_the_queue_and_what_is_delayed() {
    let report = plan("--burst 10000/s --burst-for 1s").report().unwrap();
    let picture = plot::svg(&report).unwrap();
    assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"), "{picture}");
    for text in ["10,000/s uploads for 1 s", "in the queue", "of these delayed", "seconds"] {
        assert!(picture.contains(text), "{text}: {picture}");
    }
}

#[test]
fn what_cannot_be_is_said_in_a_sentence() {
    let refused = |arguments: &str| {
        let words = arguments.split_whitespace();
        Cli::try_parse_from(std::iter::once("plan").chain(words)).unwrap_err().to_string()
    };
    assert!(refused("--burst 5000/s").contains("--burst-for <TIME>"));
    assert!(refused("--arrivals 200").contains("such as 200/s"));
    assert!(refused("--from-metrics --arrivals 1/s").contains("cannot be used with"));
    assert!(refused("--since 24h").contains("--from-metrics"));
    assert!(refused("--maximum-concurrency 1").contains("2..=1000"));
    let error = plan("--arrivals 1/s --batch-size 50").report().unwrap_err().to_string();
    assert!(error.contains("--batching-window-seconds"), "{error}");
}
